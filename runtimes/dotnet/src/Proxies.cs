using System;
using System.Collections.Generic;
using System.Reflection;

namespace Kennel
{
    /// <summary>ILambdaContext and its parts made at run time, where Context.cs does not fit.</summary>
    /// <remarks>Slower to start (it generates code), so only for packages that merged Amazon.Lambda.Core into another assembly.</remarks>
    static class Proxies
    {
        static readonly MethodInfo Create = FindCreate();

        public static object NewContext(Type contextType, Invocation invocation, Handler handler)
        {
            return Make(contextType, new ContextProxy.Source(invocation, handler).Get);
        }

        internal static object Make(Type type, Func<MethodInfo, object[], object> get)
        {
            ContextProxy proxy = (ContextProxy)Create.MakeGenericMethod(type, typeof(ContextProxy)).Invoke(null, null);
            proxy.Get = get;
            return proxy;
        }

        static MethodInfo FindCreate()
        {
            foreach (MethodInfo m in typeof(DispatchProxy).GetMethods())
                if (m.Name == "Create" && m.IsGenericMethod) return m;
            throw new MissingMethodException("DispatchProxy.Create");
        }
    }

    public class ContextProxy : DispatchProxy
    {
        public Func<MethodInfo, object[], object> Get;

        protected override object Invoke(MethodInfo method, object[] args)
        {
            return Get(method, args);
        }

        internal sealed class Source
        {
            readonly Invocation _invocation;
            readonly Handler _handler;

            public Source(Invocation invocation, Handler handler)
            {
                _invocation = invocation;
                _handler = handler;
            }

            public object Get(MethodInfo method, object[] args)
            {
                switch (method.Name)
                {
                    case "get_AwsRequestId": return _invocation.RequestId;
                    case "get_InvokedFunctionArn": return _invocation.Arn;
                    case "get_FunctionName": return Variable("AWS_LAMBDA_FUNCTION_NAME");
                    case "get_FunctionVersion": return Variable("AWS_LAMBDA_FUNCTION_VERSION");
                    case "get_LogGroupName": return Variable("AWS_LAMBDA_LOG_GROUP_NAME");
                    case "get_LogStreamName": return Variable("AWS_LAMBDA_LOG_STREAM_NAME");
                    case "get_RemainingTime": return _invocation.RemainingTime();
                    case "get_MemoryLimitInMB":
                        int mb;
                        int.TryParse(Variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), out mb);
                        return mb;
                    case "get_TenantId": return _invocation.TenantId;
                    case "get_TraceId": return _invocation.TraceId;
                    case "get_Serializer": return _handler.Serializer;
                    case "get_Logger": return Proxies.Make(method.ReturnType, LogCall);
                    case "get_ClientContext": return Proxies.Make(method.ReturnType, new Parts(Json.Parse(_invocation.ClientContext)).Get);
                    case "get_Identity": return Proxies.Make(method.ReturnType, new Parts(Json.Parse(_invocation.CognitoIdentity)).Get);
                    default: return null;
                }
            }

            static string Variable(string name)
            {
                return Environment.GetEnvironmentVariable(name);
            }

            // Log(message), LogLine(message), Log([level], [exception], message, [args]) and LogLEVEL([exception], message, [args]).
            static object LogCall(MethodInfo method, object[] args)
            {
                string level = method.Name == "Log" || method.Name == "LogLine" ? null : method.Name.Substring(3), message = null;
                Exception exception = null;
                object[] values = null;
                ParameterInfo[] parameters = method.GetParameters();
                for (int i = 0; i < args.Length; i++)
                {
                    Type type = parameters[i].ParameterType;
                    if (type == typeof(Exception)) exception = (Exception)args[i];
                    else if (type == typeof(object[])) values = (object[])args[i];
                    else if (type.IsEnum || (parameters[i].Name == "level" && args.Length > 1)) level = Convert.ToString(args[i]);
                    else message = (string)args[i];
                }
                if (method.Name == "Log" && args.Length == 1) Log.Out.Write(message);
                else if (method.Name == "LogLine") Log.Out.WriteLine(message);
                else Log.Line(level, exception, message, values);
                return null;
            }
        }

        // The members of IClientContext, IClientApplication and ICognitoIdentity; no two share a name.
        sealed class Parts
        {
            readonly IDictionary<string, object> _json;

            public Parts(IDictionary<string, object> json)
            {
                _json = json;
            }

            public object Get(MethodInfo method, object[] args)
            {
                switch (method.Name)
                {
                    case "get_Environment": return Json.Strings(_json, "env");
                    case "get_Custom": return Json.Strings(_json, "custom");
                    case "get_Client":
                        object client;
                        return _json != null && _json.TryGetValue("client", out client) && client is IDictionary<string, object>
                            ? Proxies.Make(method.ReturnType, new Parts((IDictionary<string, object>)client).Get) : null;
                    case "get_AppPackageName": return Json.Text(_json, "app_package_name");
                    case "get_AppTitle": return Json.Text(_json, "app_title");
                    case "get_AppVersionCode": return Json.Text(_json, "app_version_code");
                    case "get_AppVersionName": return Json.Text(_json, "app_version_name");
                    case "get_InstallationId": return Json.Text(_json, "installation_id");
                    case "get_IdentityId": return Json.Text(_json, "cognitoIdentityId");
                    case "get_IdentityPoolId": return Json.Text(_json, "cognitoIdentityPoolId");
                    default: return null;
                }
            }
        }
    }
}
