// Handlers on the later members of Amazon.Lambda.Core. Built twice: with Newer.cs as an assembly of its own, and with Newer.cs
// compiled in, as packages merged by ILRepack and its like are.
using System;
using System.Collections.Generic;
using System.IO;
using System.Text;
using System.Text.Json;
using Amazon.Lambda.Core;

[assembly: LambdaSerializer(typeof(Modern.TextSerializer))]

namespace Modern
{
    public class TextSerializer : ILambdaSerializer
    {
        public T Deserialize<T>(Stream requestStream) { return (T)(object)new StreamReader(requestStream).ReadToEnd(); }

        public void Serialize<T>(T response, Stream responseStream)
        {
            byte[] text = Encoding.UTF8.GetBytes(response.ToString());
            responseStream.Write(text, 0, text.Length);
        }
    }

    public class Function
    {
        public string Context(string s, ILambdaContext c)
        {
            return string.Join("|", c.TenantId, c.TraceId, c.Serializer.GetType().Name, c.AwsRequestId, c.FunctionName, c.FunctionVersion, c.InvokedFunctionArn,
                c.LogGroupName, c.LogStreamName, c.MemoryLimitInMB, c.RemainingTime > TimeSpan.Zero, c.ClientContext.Custom["k"], c.ClientContext.Client.AppTitle, c.Identity.IdentityId);
        }

        public enum Metal { Lead, Gold }

        public class Ware
        {
            public string Name { get; set; }
            public int Left { get; set; }
            public string Nothing { get; set; }
            public override string ToString() { return Name + " " + Left; }
        }

        public string Structured(string s, ILambdaContext c)
        {
            Ware ware = new Ware { Name = "Nail \u2713", Left = 3 };
            DateTime moment = new DateTime(2024, 2, 18, 15, 19, 45, 545, DateTimeKind.Utc);
            byte[] bytes = new byte[20];
            c.Logger.Log("Information", "{bool} {byte} {char} {decimal} {double} {float} {long} {enum} {nan} {none}",
                true, (byte)1, 'a', 4.5m, 5.6, 7.7f, -100L, Metal.Gold, double.NaN, null);
            c.Logger.Log("Information", "{when} {offset} {bytes} {ware} {when:yyyy}", moment, new DateTimeOffset(moment), bytes, ware, moment);
            c.Logger.Log("Information", "{wares} {@serialized} {map} {@maps} {@one} {count:000}", new object[] { ware, 1, null }, new[] { ware },
                new Dictionary<string, object> { { "a", 1.5 } }, new Dictionary<string, Ware> { { "b", ware } }, ware, 7);
            c.Logger.Log("Information", "{1} {0} {1}", "zero", "one");
            c.Logger.Log("Information", "{0} {1}", "only");
            c.Logger.Log("Information", "{1} {2}", "by", "turns");
            c.Logger.Log("Information", "{{no}} {a} {} {b", "line\n\"two\"");
            c.Logger.Log("Trace", "never {seen}", 1);
            LambdaLogger.ConfigureStructuredLogging(new StructuredLoggingOptions {
                OverrideSerializerOptions = new JsonSerializerOptions { PropertyNamingPolicy = JsonNamingPolicy.CamelCase, WriteIndented = true } });
            c.Logger.Log("Information", "{@one}", ware);
            return s;
        }

        public string Levels(string s, ILambdaContext c)
        {
            foreach (string level in "Trace Debug Information Warning Error Critical".Split(' ')) c.Logger.Log(level, level);
            return s;
        }

        public string Log(string s, ILambdaContext c)
        {
            c.Logger.LogLine("line " + s);
            c.Logger.Log("raw " + s + "\n");
            c.Logger.Log("Warning", "careful " + s);
            c.Logger.Log("Debug", "never seen");
            c.Logger.Log("Information", "{count} of {name}, {price:F2} {{x}}", 3, "apples", 1.5);
            c.Logger.Log("Error", new ArgumentException("why"), "it {what}", "broke");
            LambdaLogger.Log("static " + s + "\n");
            LambdaLogger.Log("Critical", "worst {0}{0}", s);
            LambdaLogger.Log("Error", new ArgumentException("static why"), "static broke");
            return s;
        }
    }
}
