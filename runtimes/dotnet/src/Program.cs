// Runs handlers of AWS Lambda's .NET packages: `Assembly::Namespace.Type::Method`.
//
//   launch           picks the package's deps.json and runtimeconfig.json and starts this assembly under them
//   Program.cs       the loop: next event, handler, answer
//   Ahead.cs         the start ahead of the function: what is loaded by then, the claim, the function's environment
//   Package.cs       whether a package can be loaded into a process that runs already
//   RuntimeApi.cs    the Runtime API's client, on the system calls of Libc.cs
//   Handler.cs       finds the handler and its serializer, calls it
//   Context.cs       ILambdaContext and its parts, for the Amazon.Lambda.Core that the package brings
//   Proxies.cs       the same for a package that keeps those interfaces in an assembly of another name
//   Log.cs           Console and the loggers, in the format of AWS's own runtime
//   Template.cs      log messages with places for values
//   Errors.cs        exceptions as the JSON that AWS's own runtime makes
//
// Nothing here is compiled ahead of time: each method that runs before the first event costs a fraction of a
// millisecond of JIT. So there is little of it, without lambdas, LINQ or generics over value types; and a start ahead
// runs all of it once, on warm/, before there is a function.
using System;
using System.IO;
using System.Reflection;
using System.Runtime.Loader;

[assembly: AssemblyVersion("1.0.0.0")]

namespace Kennel
{
    static class Program
    {
        const string SocketVariable = "KENNEL_RUNTIME_API_SOCKET";

        /// <param name="args">The Unix socket of the Runtime API; none: from the environment.</param>
        static int Main(string[] args)
        {
            string socket = args.Length > 0 ? args[0] : null;
            AssemblyLoadContext.Default.Resolving += FromTaskRoot;
            RuntimeApi api;
            if (Environment.GetEnvironmentVariable("KENNEL_PREBOOT") == "1") api = Ahead.Claim(socket ?? Environment.GetEnvironmentVariable(SocketVariable));
            else
            {
                if (socket == null && (socket = Environment.GetEnvironmentVariable(SocketVariable)) != null)
                    Environment.SetEnvironmentVariable(SocketVariable, null);
                api = new RuntimeApi(socket, Environment.GetEnvironmentVariable("AWS_LAMBDA_RUNTIME_API"));
            }
            Log.Install();
            Handler handler = new Handler();
            try
            {
                handler.Load(Environment.GetEnvironmentVariable("_HANDLER"));
            }
            catch (Exception e)
            {
                Log.Error.WriteLine(e.ToString());
                api.Fail("init/error", e.GetType().Name, Errors.Describe(e));
                Environment.Exit(1);
            }
            Serve(api, handler);
            // Without a Runtime API there is nothing left to do, whatever threads the handler has started.
            Environment.Exit(1);
            return 1;
        }

        /// <summary>Answers events until there are no more.</summary>
        public static void Serve(RuntimeApi api, Handler handler)
        {
            MemoryStream result = new MemoryStream();
            while (api.Next())
            {
                Invocation invocation = new Invocation(api);
                Log.RequestId = invocation.RequestId;
                Log.TraceId = invocation.TraceId;
                Log.TenantId = invocation.TenantId;
                Environment.SetEnvironmentVariable("_X_AMZN_TRACE_ID", invocation.TraceId);
                try
                {
                    ArraySegment<byte> body = api.Body;
                    result.SetLength(0);
                    handler.Invoke(new MemoryStream(body.Array, body.Offset, body.Count, false), invocation, result);
                }
                catch (Exception e)
                {
                    Log.Error.WriteLine(e.ToString());
                    api.Fail("invocation/" + invocation.RequestId + "/error", e.GetType().Name, Errors.Describe(e));
                    continue;
                }
                api.Respond(invocation.RequestId, result.GetBuffer(), (int)result.Length);
                if (api.Status == 413) TooLarge(api, invocation.RequestId, result.Length);
                if (result.Capacity > 1 << 20) result = new MemoryStream();
            }
        }

        static void TooLarge(RuntimeApi api, string requestId, long size)
        {
            api.Fail("invocation/" + requestId + "/error", "Function.ResponseSizeTooLarge",
                     "{\n  \"errorType\": \"Function.ResponseSizeTooLarge\",\n  \"errorMessage\": \"Response payload size (" + size
                     + " bytes) exceeded maximum allowed payload size (6291556 bytes).\"\n}\n");
        }

        // What no deps.json lists: a plain file of that name in the package.
        static Assembly FromTaskRoot(AssemblyLoadContext context, AssemblyName name)
        {
            string root = Environment.GetEnvironmentVariable("LAMBDA_TASK_ROOT") ?? "/var/task";
            string file = Path.Combine(root, name.CultureName ?? "", name.Name + ".dll");
            return File.Exists(file) ? context.LoadFromAssemblyPath(file) : null;
        }
    }

    /// <summary>One event's headers.</summary>
    sealed class Invocation
    {
        public readonly string RequestId, Arn, TraceId, ClientContext, CognitoIdentity, TenantId;
        readonly string _deadlineMs;

        public Invocation(RuntimeApi api)
        {
            RequestId = api.Header("Lambda-Runtime-Aws-Request-Id");
            Arn = api.Header("Lambda-Runtime-Invoked-Function-Arn");
            TraceId = api.Header("Lambda-Runtime-Trace-Id");
            ClientContext = api.Header("Lambda-Runtime-Client-Context");
            CognitoIdentity = api.Header("Lambda-Runtime-Cognito-Identity");
            TenantId = api.Header("Lambda-Runtime-Aws-Tenant-Id");
            _deadlineMs = api.Header("Lambda-Runtime-Deadline-Ms");
        }

        public TimeSpan RemainingTime()
        {
            long deadline;
            long.TryParse(_deadlineMs, out deadline);
            return DateTimeOffset.FromUnixTimeMilliseconds(deadline) - DateTimeOffset.UtcNow;
        }
    }
}
