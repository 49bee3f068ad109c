// Handlers on the later members of Amazon.Lambda.Core. Built twice: with Newer.cs as an assembly of its own, and with Newer.cs
// compiled in, as packages merged by ILRepack and its like are.
using System;
using System.IO;
using System.Text;
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
