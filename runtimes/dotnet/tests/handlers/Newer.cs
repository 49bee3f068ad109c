// Amazon.Lambda.Core with the members that later versions added and the bootstrap's own reference has not.
using System;
using System.Collections.Generic;
using System.IO;
using System.Text.Json;

namespace Amazon.Lambda.Core
{
    public interface ILambdaContext
    {
        string AwsRequestId { get; }
        IClientContext ClientContext { get; }
        string FunctionName { get; }
        string FunctionVersion { get; }
        ICognitoIdentity Identity { get; }
        string InvokedFunctionArn { get; }
        ILambdaLogger Logger { get; }
        string LogGroupName { get; }
        string LogStreamName { get; }
        int MemoryLimitInMB { get; }
        TimeSpan RemainingTime { get; }
        string TenantId { get; }
        string TraceId { get; }
        ILambdaSerializer Serializer { get; }
    }

    public interface ILambdaLogger
    {
        void Log(string message);
        void LogLine(string message);
        void Log(string level, string message);
        void Log(string level, string message, params object[] args);
        void Log(string level, Exception exception, string message, params object[] args);
    }

    public interface IClientContext
    {
        IDictionary<string, string> Environment { get; }
        IClientApplication Client { get; }
        IDictionary<string, string> Custom { get; }
    }

    public interface IClientApplication
    {
        string AppPackageName { get; }
        string AppTitle { get; }
        string AppVersionCode { get; }
        string AppVersionName { get; }
        string InstallationId { get; }
    }

    public interface ICognitoIdentity
    {
        string IdentityId { get; }
        string IdentityPoolId { get; }
    }

    public interface ILambdaSerializer
    {
        T Deserialize<T>(Stream requestStream);
        void Serialize<T>(T response, Stream responseStream);
    }

    [AttributeUsage(AttributeTargets.Assembly | AttributeTargets.Method)]
    public sealed class LambdaSerializerAttribute : Attribute
    {
        public LambdaSerializerAttribute(Type serializerType) { SerializerType = serializerType; }
        public Type SerializerType { get; set; }
    }

    public class StructuredLoggingOptions
    {
        public JsonSerializerOptions OverrideSerializerOptions { get; set; }
    }

    public static class LambdaLogger
    {
        private static Action<string> _loggingAction = null;
        private static Action<string, string, object[]> _loggingWithLevelAction = null;
        private static Action<string, Exception, string, object[]> _loggingWithLevelAndExceptionAction = null;
        private static Action<StructuredLoggingOptions> _configureStructuredLoggingAction = options => _placeHolderStructuredLoggingOptions = options;
        private static StructuredLoggingOptions _placeHolderStructuredLoggingOptions;
        public static void ConfigureStructuredLogging(StructuredLoggingOptions options) { _configureStructuredLoggingAction(options); }
        public static void Log(string message) { _loggingAction(message); }
        public static void Log(string level, string message, params object[] args) { _loggingWithLevelAction(level, message, args); }
        public static void Log(string level, Exception e, string message, params object[] args) { _loggingWithLevelAndExceptionAction(level, e, message, args); }
    }
}
