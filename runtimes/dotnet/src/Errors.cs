using System;
using System.Text;

namespace Kennel
{
    /// <summary>An exception as AWS's .NET runtime reports it: indented JSON with short type names and nested causes.</summary>
    static class Errors
    {
        const int Limit = 256 * 1024;

        public static string Describe(Exception e)
        {
            StringBuilder json = new StringBuilder();
            Append(json, e, "");
            if (json.Length > Limit) return "{\"errorMessage\": \"Exception exceeded maximum payload size of 256KB.\"}\n";
            return json.Append('\n').ToString();
        }

        static void Append(StringBuilder json, Exception e, string indent)
        {
            string inner = indent + "  ";
            json.Append("{\n");
            Json.Quote(json.Append(inner).Append("\"errorType\": "), e.GetType().Name);
            Json.Quote(json.Append(",\n").Append(inner).Append("\"errorMessage\": "), e.Message ?? "");
            AppendStack(json, e.StackTrace, inner);
            if (json.Length < Limit)
            {
                if (e.InnerException != null) Append(json.Append(",\n").Append(inner).Append("\"cause\": "), e.InnerException, inner);
                AggregateException all = e as AggregateException;
                if (all != null && all.InnerExceptions.Count > 0)
                {
                    json.Append(",\n").Append(inner).Append("\"causes\": [");
                    for (int i = 0; i < all.InnerExceptions.Count; i++)
                        Append(json.Append(i == 0 ? "\n" : ",\n").Append(inner).Append("  "), all.InnerExceptions[i], inner + "  ");
                    json.Append('\n').Append(inner).Append(']');
                }
            }
            json.Append('\n').Append(indent).Append('}');
        }

        // Without the frames below the handler, which are the bootstrap's.
        static void AppendStack(StringBuilder json, string trace, string indent)
        {
            if (string.IsNullOrEmpty(trace)) return;
            string[] lines = trace.Split('\n');
            int count = lines.Length;
            while (count > 0 && IsOurs(lines[count - 1].Trim())) count--;
            if (count == 0) return;
            json.Append(",\n").Append(indent).Append("\"stackTrace\": [");
            for (int i = 0; i < count; i++)
                Json.Quote(json.Append(i == 0 ? "\n  " : ",\n  ").Append(indent), lines[i].Trim());
            json.Append('\n').Append(indent).Append(']');
        }

        static bool IsOurs(string frame)
        {
            return frame == "" || frame.StartsWith("at Kennel.", StringComparison.Ordinal) || frame.StartsWith("at System.Reflection.", StringComparison.Ordinal)
                || frame.StartsWith("at System.RuntimeMethodHandle.", StringComparison.Ordinal) || frame.StartsWith("at InvokeStub_", StringComparison.Ordinal)
                || frame.StartsWith("at System.Runtime.CompilerServices.TaskAwaiter", StringComparison.Ordinal)
                || frame.StartsWith("--- End of stack trace", StringComparison.Ordinal);
        }
    }
}
