// Forms of handlers that the packages under tests/fixtures/dotnet have not.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Runtime.Loader;
using System.Text;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using Amazon.Lambda.Core;

[assembly: LambdaSerializer(typeof(Forms.TextSerializer))]

namespace Forms
{
    // Takes and gives plain text: enough to see who is called, in any .NET version.
    public class TextSerializer : ILambdaSerializer
    {
        public virtual T Deserialize<T>(Stream requestStream)
        {
            return (T)(object)new StreamReader(requestStream).ReadToEnd();
        }

        public virtual void Serialize<T>(T response, Stream responseStream)
        {
            byte[] text = Encoding.UTF8.GetBytes(typeof(T).Name + " " + response);
            responseStream.Write(text, 0, text.Length);
        }
    }

    public class LoudSerializer : TextSerializer
    {
        public override T Deserialize<T>(Stream requestStream)
        {
            return (T)(object)((string)(object)base.Deserialize<T>(requestStream)).ToUpperInvariant();
        }
    }

    public class BrokenSerializer : TextSerializer
    {
        public BrokenSerializer(int _) { }
    }

    public class Base
    {
        public string Inherited(string s) { return "inherited " + s; }
    }

    public class Function : Base
    {
        public static int Started = Environment.TickCount;

        public async ValueTask<string> ValueTaskText(string s)
        {
            await Task.Yield();
            return "value " + s;
        }

        public ValueTask<int> ValueTaskDone(string s) { return new ValueTask<int>(s.Length); }

        public ValueTask ValueTaskOnly(string s) { return new ValueTask(TaskOnly(s)); }

        public async Task TaskOnly(string s)
        {
            await Task.Delay(1);
            Console.WriteLine("did " + s);
        }

        public async Task<Stream> TaskStream(Stream s)
        {
            MemoryStream all = new MemoryStream();
            await s.CopyToAsync(all);
            all.Position = 1;
            return all;
        }

        [DllImport("libc")]
        static extern IntPtr getenv(string name);

        static void Member(StringBuilder json, string name, string value)
        {
            json.Append(json[json.Length - 1] == '{' ? "" : ",").Append(JsonSerializer.Serialize(name)).Append(':').Append(JsonSerializer.Serialize(value));
        }

        // What a process is told of itself: variables in .NET, in a child and in the C library, folders and settings.
        public string Ask(string s)
        {
            StringBuilder managed = new StringBuilder("{"), child = new StringBuilder("{"), libc = new StringBuilder("{"), rest = new StringBuilder("{");
            foreach (DictionaryEntry entry in Environment.GetEnvironmentVariables())
            {
                string name = (string)entry.Key;
                Member(managed, name, (string)entry.Value);
                IntPtr value = getenv(name);
                if (value != IntPtr.Zero) Member(libc, name, Marshal.PtrToStringUTF8(value));
            }
            foreach (string name in new[] { "KENNEL_PREBOOT", "KENNEL_LAUNCH", "KENNEL_DOTNET", "BOOT_ONLY" })
                if (getenv(name) != IntPtr.Zero) Member(libc, name, "");
            ProcessStartInfo start = new ProcessStartInfo("/usr/bin/env", "-0") { RedirectStandardOutput = true };
            using (Process process = Process.Start(start))
                foreach (string variable in process.StandardOutput.ReadToEnd().Split('\0'))
                    if (variable.IndexOf('=') > 0) Member(child, variable.Substring(0, variable.IndexOf('=')), variable.Substring(variable.IndexOf('=') + 1));
            Member(rest, "cwd", Environment.CurrentDirectory);
            Member(rest, "base", AppContext.BaseDirectory);
            Member(rest, "deps", (string)AppContext.GetData("APP_CONTEXT_DEPS_FILES"));
            Member(rest, "assemblies", (string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES"));
            Member(rest, "knob", (string)AppContext.GetData("My.Knob") + AppContext.GetData("My.Text"));
            bool on;
            Member(rest, "switch", AppContext.TryGetSwitch("My.Knob", out on) + " " + on);
            Member(rest, "context", AssemblyLoadContext.GetLoadContext(typeof(Function).Assembly) == AssemblyLoadContext.Default ? "default" : "other");
            Member(rest, "where", typeof(Function).Assembly.Location + " " + typeof(ILambdaContext).Assembly.Location);
            Member(rest, "culture", CultureInfo.CurrentCulture.Name + TimeZoneInfo.Local.Id + Assembly.GetEntryAssembly().GetName().Name);
            return rest.ToString() + ",\"managed\":" + managed + "},\"child\":" + child + "},\"libc\":" + libc + "}}";
        }

        public Stream NullStream(Stream s) { return null; }

        public string OnlyContext(ILambdaContext context) { return context.FunctionName + " " + context.AwsRequestId; }

        [LambdaSerializer(typeof(LoudSerializer))]
        public string Loud(string s) { return s; }

        [LambdaSerializer(typeof(BrokenSerializer))]
        public string Broken(string s) { return s; }

        public string Twice(string s) { return "text " + s; }
        public string Twice(Stream s) { return "stream"; }

        string Private(string s) { return "private " + s; }

        public string Three(string a, string b, string c) { return a; }
        public string SecondNotContext(string a, string b) { return a; }
        public T Generic<T>(T a) { return a; }
        public async void AsyncVoid(string a) { await Task.Yield(); }

        public string Partly(string s)
        {
            Console.Write("a");
            Console.Write('b');
            Console.Write("{0}-{1}\n", 1, 2);
            Console.WriteLine("{0} of {1}", 1, 2);
            Console.WriteLine(42);
            Console.Error.Write("e\n");
            return s;
        }

        public Stream Big(Stream s)
        {
            byte[] all = new byte[int.Parse(new StreamReader(s).ReadToEnd())];
            for (int i = 0; i < all.Length; i++) all[i] = (byte)'x';
            return new MemoryStream(all);
        }

        public string Length(Stream s) { return s.Length.ToString(); }

        public string Variable(string name) { return Environment.GetEnvironmentVariable(name) ?? "(unset)"; }

        public string Environ(string prefix)
        {
            string found = "";
            foreach (System.Collections.DictionaryEntry e in Environment.GetEnvironmentVariables())
                if (((string)e.Key).StartsWith(prefix)) found += e.Key + ";";
            return found + File.ReadAllText("/proc/self/environ").Contains(prefix);
        }

        public string Currency(string s) { return 1234.5.ToString("C") + " " + System.Globalization.CultureInfo.CurrentCulture.Name; }

        public string Aggregate(string s)
        {
            throw new AggregateException("two went wrong", new ArgumentException("one \"quoted\""), new InvalidOperationException("zwei ü"));
        }

        public string Exit(string s)
        {
            Environment.Exit(int.Parse(s));
            return s;
        }

        public string Crash(string s)
        {
            Thread t = new Thread(() => { throw new ApplicationException("on a thread"); });
            t.Start();
            t.Join();
            return s;
        }

        public string Levels(string s, ILambdaContext context)
        {
            Console.WriteLine("out " + s);
            context.Logger.LogLine("line " + s);
            return s;
        }

        public string Whole(string s, ILambdaContext c)
        {
            IClientContext client = c.ClientContext;
            ICognitoIdentity identity = c.Identity;
            return string.Join("|", client.Custom["k"], client.Environment["locale"], client.Client.AppTitle, client.Client.AppPackageName, client.Client.AppVersionCode,
                client.Client.AppVersionName, client.Client.InstallationId, identity.IdentityId, identity.IdentityPoolId);
        }
    }

    public abstract class Abstract
    {
        public string Run(string s) { return s; }
        public static string Static(string s) { return "static " + s; }
    }

    public class Generic<T>
    {
        public string Run(string s) { return s; }
    }

    public struct Value
    {
        public string Run(string s) { return "struct " + s; }
    }

    public class BrokenStatic
    {
        static readonly int Number = int.Parse("no number");
        public static string Run(string s) { return s + Number; }
    }
}

public class NoNamespace
{
    public class Nested
    {
        public string Run(string s) { return "nested " + s; }
    }

    public static string Run(string s) { return "no namespace " + s; }
}
