/*
 * A whole runtime in one small static program: the event is a JSON string, a line for sh(1); the result is what that
 * printed. Speaks the Runtime API over TCP, as a package for any Lambda would.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST (1 << 20)

static int api;
static char in[MOST], out[2 * MOST], printed[MOST];

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* Sends a request, reads its reply into `in`; where the body is. */
static char *ask(const char *head, const char *body, size_t length) {
    size_t got = 0, sent = strlen(head);
    if (send(api, head, sent, MSG_NOSIGNAL) != (ssize_t)sent) die("send");
    for (sent = 0; sent < length; ) {
        ssize_t count = send(api, body + sent, length - sent, MSG_NOSIGNAL);
        if (count < 0) die("send");
        sent += count;
    }
    char *end = NULL;
    while (!end || strlen(end) < strtoul(strcasestr(in, "content-length:") + 15, NULL, 10)) {
        ssize_t count = recv(api, in + got, MOST - 1 - got, 0);
        if (count <= 0) exit(0);
        in[got += count] = 0;
        end = strstr(in, "\r\n\r\n");
        if (end) end += 4;
    }
    return end;
}

/* Takes the quotes and the two escapes that the tests use away, in place. */
static void plain(char *text) {
    char *to = text, *last = strrchr(text, '"');
    for (char *from = text + 1; from < last; from++) {
        if (*from == '\\') from++;
        *to++ = *from;
    }
    *to = 0;
}

static size_t quoted(const char *text, size_t length) {
    char *to = out;
    *to++ = '"';
    for (size_t i = 0; i < length; i++) {
        unsigned char c = text[i];
        if (c < 32 || c > 126 || c == '"' || c == '\\') to += sprintf(to, "\\u%04x", c);
        else *to++ = c;
        if (to > out + sizeof out - 16) break;
    }
    *to++ = '"';
    return to - out;
}

int main(void) {
    char request[512], number[64], id[64];
    int port;
    if (sscanf(getenv("AWS_LAMBDA_RUNTIME_API"), "%63[0-9.]:%d", number, &port) != 2) die("the address");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, number, &address.sin_addr);
    api = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (api < 0 || connect(api, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(api, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    for (;;) {
        char *event = ask("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n", "", 0);
        sscanf(strcasestr(in, "lambda-runtime-aws-request-id:") + 30, " %63[0-9a-f-]", id);
        size_t length = 0;
        if (*event == '"') {
            plain(event);
            FILE *shell = popen(event, "r");
            if (!shell) die("popen");
            length = fread(printed, 1, sizeof printed, shell);
            pclose(shell);
        }
        length = quoted(printed, length);
        snprintf(request, sizeof request,
                 "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", id, length);
        ask(request, out, length);
    }
}
