/*
 * What a start ahead of time needs and Java has no call for: another working directory, another environment.
 *
 * Loaded as an agent (-agentpath), which links the methods of kennel.runtime.Ahead and says nothing on any JVM, where
 * System.load warns from Java 24 on. An agent without a capability costs nothing and changes nothing. Linked with
 * nothing, so that the C library is the one that the JVM has, whichever it is.
 */
#include <jni.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

JNIEXPORT jint JNICALL Agent_OnLoad(JavaVM *vm, char *options, void *reserved)
{
    (void)vm, (void)options, (void)reserved;
    return JNI_OK;
}

/* The map behind System.getenv; null, with the reason thrown, in a JVM that keeps it elsewhere. */
JNIEXPORT jobject JNICALL Java_kennel_runtime_Ahead_known(JNIEnv *env, jclass caller)
{
    (void)caller;
    jclass owner = (*env)->FindClass(env, "java/lang/ProcessEnvironment");
    if (owner == NULL)
        return NULL;
    jfieldID field = (*env)->GetStaticFieldID(env, owner, "theEnvironment", "Ljava/util/HashMap;");
    return field == NULL ? NULL : (*env)->GetStaticObjectField(env, owner, field);
}

/* What is inside the map of ProcessBuilder.environment: names and values in the form that `known` has them. */
JNIEXPORT jobject JNICALL Java_kennel_runtime_Ahead_inside(JNIEnv *env, jclass caller, jobject map)
{
    (void)caller;
    jfieldID field = (*env)->GetFieldID(env, (*env)->GetObjectClass(env, map), "m", "Ljava/util/Map;");
    return field == NULL ? NULL : (*env)->GetObjectField(env, map, field);
}

/*
 * Makes `count` strings in `block`, each with its NUL, the C library's environment, for child processes and libraries.
 * False where there is no memory. The caller sees to it that no other thread reads the environment meanwhile. The one
 * before stays where it is, as somebody may hold a pointer into it.
 */
JNIEXPORT jboolean JNICALL Java_kennel_runtime_Ahead_export(JNIEnv *env, jclass caller, jbyteArray block, jint count)
{
    (void)caller;
    jsize size = (*env)->GetArrayLength(env, block);
    char *text = malloc((size_t)size + 1);
    char **all = malloc(((size_t)count + 1) * sizeof *all);
    if (text == NULL || all == NULL)
        return JNI_FALSE;
    (*env)->GetByteArrayRegion(env, block, 0, size, (jbyte *)text);
    text[size] = 0;
    jint done = 0;
    for (char *at = text; done < count && at < text + size; at += strlen(at) + 1)
        all[done++] = at;
    all[done] = NULL;
    environ = all;
    return JNI_TRUE;
}

/* chdir(2); `path` ends with its NUL. */
JNIEXPORT jboolean JNICALL Java_kennel_runtime_Ahead_enter(JNIEnv *env, jclass caller, jbyteArray path)
{
    (void)caller;
    jbyte *text = (*env)->GetByteArrayElements(env, path, NULL);
    if (text == NULL)
        return JNI_FALSE;
    int failed = chdir((char *)text);
    (*env)->ReleaseByteArrayElements(env, path, text, JNI_ABORT);
    return failed ? JNI_FALSE : JNI_TRUE;
}
