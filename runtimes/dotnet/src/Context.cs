using System;
using System.Collections.Generic;
using System.Runtime.CompilerServices;
using Amazon.Lambda.Core;

namespace Kennel
{
    /// <summary>The only door to the types below.</summary>
    /// <remarks>
    /// They implement interfaces of Amazon.Lambda.Core, which only the package has: they load, from there, when this
    /// method first runs. The runtime matches members by name and signature, so the ones that later versions added
    /// are virtual methods here, used where the package's version asks for them.
    /// </remarks>
    static class Contract
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public static object NewContext(Invocation invocation, Handler handler)
        {
            return new Context(invocation, handler);
        }
    }

    class Context : ILambdaContext
    {
        readonly Invocation _invocation;
        readonly Handler _handler;
        ClientContext _client;
        Identity _identity;
        Logger _logger;

        public Context(Invocation invocation, Handler handler)
        {
            _invocation = invocation;
            _handler = handler;
        }

        public string AwsRequestId { get { return _invocation.RequestId; } }
        public string InvokedFunctionArn { get { return _invocation.Arn; } }
        public string FunctionName { get { return Environment.GetEnvironmentVariable("AWS_LAMBDA_FUNCTION_NAME"); } }
        public string FunctionVersion { get { return Environment.GetEnvironmentVariable("AWS_LAMBDA_FUNCTION_VERSION"); } }
        public string LogGroupName { get { return Environment.GetEnvironmentVariable("AWS_LAMBDA_LOG_GROUP_NAME"); } }
        public string LogStreamName { get { return Environment.GetEnvironmentVariable("AWS_LAMBDA_LOG_STREAM_NAME"); } }
        public TimeSpan RemainingTime { get { return _invocation.RemainingTime(); } }
        public IClientContext ClientContext { get { return _client ?? (_client = new ClientContext(Json.Parse(_invocation.ClientContext))); } }
        public ICognitoIdentity Identity { get { return _identity ?? (_identity = new Identity(Json.Parse(_invocation.CognitoIdentity))); } }
        public ILambdaLogger Logger { get { return _logger ?? (_logger = new Logger()); } }

        public int MemoryLimitInMB
        {
            get
            {
                int mb;
                int.TryParse(Environment.GetEnvironmentVariable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), out mb);
                return mb;
            }
        }

        public virtual string TenantId { get { return _invocation.TenantId; } }
        public virtual string TraceId { get { return _invocation.TraceId; } }
        public virtual ILambdaSerializer Serializer { get { return (ILambdaSerializer)_handler.Serializer; } }
    }

    class Logger : ILambdaLogger
    {
        public void Log(string message) { Kennel.Log.Out.Write(message); }
        public void LogLine(string message) { Kennel.Log.Out.WriteLine(message); }
        public virtual void Log(string level, string message) { Kennel.Log.Line(level, null, message, null); }
        public virtual void Log(string level, string message, object[] args) { Kennel.Log.Line(level, null, message, args); }
        public virtual void Log(string level, Exception exception, string message, object[] args) { Kennel.Log.Line(level, exception, message, args); }
    }

    class ClientContext : IClientContext
    {
        readonly IDictionary<string, object> _json;
        public ClientContext(IDictionary<string, object> json) { _json = json; }
        public IDictionary<string, string> Environment { get { return Json.Strings(_json, "env"); } }
        public IDictionary<string, string> Custom { get { return Json.Strings(_json, "custom"); } }

        public IClientApplication Client
        {
            get
            {
                IDictionary<string, string> client = Json.Strings(_json, "client");
                return client == null ? null : new ClientApplication(client);
            }
        }
    }

    class ClientApplication : IClientApplication
    {
        readonly IDictionary<string, string> _client;
        public ClientApplication(IDictionary<string, string> client) { _client = client; }
        public string AppPackageName { get { return Json.Get(_client, "app_package_name"); } }
        public string AppTitle { get { return Json.Get(_client, "app_title"); } }
        public string AppVersionCode { get { return Json.Get(_client, "app_version_code"); } }
        public string AppVersionName { get { return Json.Get(_client, "app_version_name"); } }
        public string InstallationId { get { return Json.Get(_client, "installation_id"); } }
    }

    class Identity : ICognitoIdentity
    {
        readonly IDictionary<string, object> _json;
        public Identity(IDictionary<string, object> json) { _json = json; }
        public string IdentityId { get { return Json.Text(_json, "cognitoIdentityId"); } }
        public string IdentityPoolId { get { return Json.Text(_json, "cognitoIdentityPoolId"); } }
    }
}
