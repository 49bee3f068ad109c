using System;
using System.Collections.Generic;
using System.IO;
using System.Reflection;
using System.Text;
using System.Text.Json;

namespace Kennel
{
    /// <summary>The start ahead of time, `KENNEL_PREBOOT=1`: all that can be done before there is a function.</summary>
    static class Ahead
    {
        const string Invariant = "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT";

        /// <summary>Waits for the function, and makes this process its own. Does not return if the package needs a start of its own.</summary>
        public static RuntimeApi Claim(string socket)
        {
            string tcp = Environment.GetEnvironmentVariable("AWS_LAMBDA_RUNTIME_API"), invariant = Environment.GetEnvironmentVariable(Invariant);
            string launch = Environment.GetEnvironmentVariable("KENNEL_LAUNCH"), program = Environment.GetEnvironmentVariable("KENNEL_DOTNET"),
                version = Environment.GetEnvironmentVariable("KENNEL_DOTNET_VERSION");
            WarmUp(Environment.Version.ToString(), invariant == "1");
            RuntimeApi api = new RuntimeApi(socket, tcp);
            Directory.SetCurrentDirectory("/");
            if (!api.Claim())
            {
                Log.Put(2, "Error: status " + api.Status.ToString() + " for the claim\n");
                Environment.Exit(1);
            }
            Dictionary<string, string> variables = Variables(api.Body);
            string root = Value(variables, "LAMBDA_TASK_ROOT") ?? "/var/task";
            // By its path: what this process stands in may lie below the function's mount.
            Directory.SetCurrentDirectory(root);
            variables["KENNEL_RUNTIME_API_SOCKET"] = socket;
            Package package = new Package(root, Environment.Version.ToString(), invariant == "1");
            if (!ReplaceEmpty(variables) || !package.Fits(Value(variables, "_HANDLER")))
            {
                Libc.ReplaceEnvironment(variables);
                Libc.Execute("/bin/sh", launch, program, version);
                Log.Put(2, "Error: cannot start /bin/sh\n");
                Environment.Exit(1);
            }
            variables.Remove("KENNEL_RUNTIME_API_SOCKET");
            // The launch script's own, which the function's environment would have had.
            if (invariant != null) variables[Invariant] = invariant;
            ReplaceEnvironment(variables);
            package.Enter();
            return api;
        }

        // Of .NET's own and of the C library's environment the one does not follow the other.
        static void ReplaceEnvironment(Dictionary<string, string> variables)
        {
            foreach (string name in Environment.GetEnvironmentVariables().Keys)
                if (!variables.ContainsKey(name)) Environment.SetEnvironmentVariable(name, null);
            foreach (KeyValuePair<string, string> variable in variables)
                if (variable.Value != Environment.GetEnvironmentVariable(variable.Key)) Environment.SetEnvironmentVariable(variable.Key, variable.Value);
            Libc.ReplaceEnvironment(variables);
        }

        // Up to .NET 8 SetEnvironmentVariable takes an empty value for none; beneath it there is one that does not. False: not here.
        static bool ReplaceEmpty(Dictionary<string, string> variables)
        {
            foreach (KeyValuePair<string, string> variable in variables)
            {
                if (variable.Value != "" || Environment.GetEnvironmentVariable(variable.Key) == "") continue;
                Environment.SetEnvironmentVariable(variable.Key, "");
                if (Environment.GetEnvironmentVariable(variable.Key) == "") continue;
                MethodInfo beneath = typeof(Environment).GetMethod("SetEnvironmentVariableCore", BindingFlags.NonPublic | BindingFlags.Static,
                    null, new[] { typeof(string), typeof(string) }, null);
                if (beneath != null) beneath.Invoke(null, new object[] { variable.Key, "" });
                if (Environment.GetEnvironmentVariable(variable.Key) != "") return false;
            }
            return true;
        }

        static string Value(Dictionary<string, string> from, string key)
        {
            string value;
            return from.TryGetValue(key, out value) && value != "" ? value : null;
        }

        static Dictionary<string, string> Variables(ArraySegment<byte> claim)
        {
            Dictionary<string, string> variables = new Dictionary<string, string>();
            using (JsonDocument document = JsonDocument.Parse(new ReadOnlyMemory<byte>(claim.Array, claim.Offset, claim.Count)))
            {
                foreach (JsonProperty variable in document.RootElement.GetProperty("env").EnumerateObject())
                    variables[variable.Name] = variable.Value.GetString();
            }
            return variables;
        }

        // Runs what a function's start and first events run, against answers that are there already: warm/ for the package,
        // a pair of sockets for the Runtime API. Nothing of it is seen outside, nothing stays but what is compiled and loaded.
        static void WarmUp(string version, bool invariant)
        {
            string core = Handler.CoreAssembly;
            Log.Muted = true;
            try
            {
                Log.Install();
                Handler.CoreAssembly = "Kennel.Warm"; // nobody must have looked for the package's in vain
                Warm(version, invariant);
            }
            catch (Exception) { } // a version of .NET that has something no more: slower, no worse
            Handler.CoreAssembly = core;
            Log.RequestId = Log.TraceId = Log.TenantId = null;
            Log.Muted = false;
            GC.Collect();
        }

        static void Warm(string version, bool invariant)
        {
            byte[] claim = Encoding.UTF8.GetBytes("{\"env\":{\"KENNEL_A\":\"\",\"KENNEL_B\":\"\\u00e4\"}}");
            Dictionary<string, string> variables = Variables(new ArraySegment<byte>(claim));
            variables["LAMBDA_TASK_ROOT"] = Path.Combine(Path.GetDirectoryName(typeof(Ahead).Assembly.Location), "warm");
            Directory.SetCurrentDirectory(variables["LAMBDA_TASK_ROOT"]);
            ReplaceEmpty(variables);
            Package package = new Package(Value(variables, "LAMBDA_TASK_ROOT"), version, invariant);
            package.Fits("Kennel.Warm::");
            package.Enter();
            package.Leave();
            ReplaceEnvironment(variables);
            foreach (string method in new[] { "Objects", "Records", "Streams", "Later", "Nothing", "Static" })
            {
                Handler handler = new Handler();
                handler.Load("Kennel.Warm::Kennel.Warm.Function::" + method);
                Answer(handler);
            }
        }

        const string Head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nlambda-runtime-aws-request-id: 0\r\nlambda-runtime-deadline-ms: 1\r\n"
            + "lambda-runtime-invoked-function-arn: a\r\nlambda-runtime-trace-id: t\r\n";
        const string Event = "{\"Name\":\"\\u00e4\",\"count\":1,\"Ratio\":1.5,\"Price\":2.5,\"Yes\":true,\"When\":\"2020-01-01T00:00:00Z\",\"Tags\":[\"a\"],"
            + "\"Map\":{\"a\":\"b\"},\"Inner\":{\"Name\":\"c\"},\"Items\":[{\"Name\":\"d\"}],\"Any\":{\"e\":[1,null]}}";
        const string Done = "HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{\"status\":\"OK\"}\n";

        // One event that a handler takes and one that it does not; then the connection ends.
        static void Answer(Handler handler)
        {
            StringBuilder answers = new StringBuilder();
            foreach (string text in new[] { Event, "null" })
                answers.Append(Head).Append("content-length: ").Append(text.Length.ToString()).Append("\r\n\r\n").Append(text).Append(Done);
            byte[] bytes = Encoding.UTF8.GetBytes(answers.ToString());
            int[] pair = Libc.Pair();
            Libc.Write(pair[1], bytes, 0, bytes.Length);
            Libc.EndOfStream(pair[1]);
            Program.Serve(new RuntimeApi(pair[0]), handler);
            Libc.Close(pair[1]);
        }
    }
}
