using System;
using System.Globalization;
using System.IO;
using System.Reflection;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace Kennel
{
    /// <summary>Where Console, LambdaLogger and ILambdaLogger write.</summary>
    /// <remarks>
    /// As in AWS's runtimes from dotnet6 on, a WriteLine becomes `time TAB request id TAB level TAB message`, or a JSON object where
    /// AWS_LAMBDA_LOG_FORMAT says so; older runtimes' lines stay as they are. Each call is one write(2), so nothing waits in a buffer
    /// and both streams keep their order.
    /// </remarks>
    static class Log
    {
        public static readonly LogWriter Out = new LogWriter(1, "Information"), Error = new LogWriter(2, "Error");
        public static string RequestId, TraceId, TenantId;

        static readonly string[] Levels = { "Trace", "Debug", "Information", "Warning", "Error", "Critical" };
        static readonly string[] Labels = { "trce", "dbug", "info", "warn", "fail", "crit" };
        static bool _plain, _json;
        static int _least = 2;

        /// <summary>Lines go nowhere.</summary>
        public static bool Muted;

        public static void Install()
        {
            _json = false;
            _least = 2;
            string name = Environment.GetEnvironmentVariable("AWS_EXECUTION_ENV");
            string format = Setting("AWS_LAMBDA_HANDLER_LOG_FORMAT", "AWS_LAMBDA_LOG_FORMAT"), level = Setting("AWS_LAMBDA_HANDLER_LOG_LEVEL", "AWS_LAMBDA_LOG_LEVEL");
            _plain = name != null && (name.StartsWith("AWS_Lambda_dotnetcore", StringComparison.Ordinal) || name.StartsWith("AWS_Lambda_dotnet5", StringComparison.Ordinal));
            if (format != null)
            {
                _json = string.Equals(format, "Json", StringComparison.OrdinalIgnoreCase);
                _plain |= string.Equals(format, "Unformatted", StringComparison.OrdinalIgnoreCase);
            }
            if (level != null)
            {
                if (string.Equals(level, "fatal", StringComparison.OrdinalIgnoreCase)) level = "Critical";
                else if (string.Equals(level, "warn", StringComparison.OrdinalIgnoreCase)) level = "Warning";
                else if (string.Equals(level, "info", StringComparison.OrdinalIgnoreCase)) level = "Information";
                int i = IndexOf(level);
                if (i >= 0) _least = i;
            }
            Console.SetOut(Out);
            Console.SetError(Error);
        }

        static string Setting(string name, string other)
        {
            string value = Environment.GetEnvironmentVariable(name);
            return string.IsNullOrEmpty(value) ? Environment.GetEnvironmentVariable(other) : value;
        }

        /// <summary>Leads the static methods of Amazon.Lambda.Core.LambdaLogger here, through the private fields that are there for it.</summary>
        public static void Redirect(Type logger)
        {
            Set(logger, "_loggingAction", new Action<string>(Static));
            Set(logger, "_loggingWithLevelAction", new Action<string, string, object[]>(StaticLevel));
            Set(logger, "_loggingWithLevelAndExceptionAction", new Action<string, Exception, string, object[]>(Line));
            if (_json && !_plain) Template.Redirect(logger);
        }

        static void Set(Type type, string name, Delegate action)
        {
            FieldInfo field = type.GetField(name, BindingFlags.NonPublic | BindingFlags.Static);
            if (field != null && field.FieldType.IsInstanceOfType(action)) field.SetValue(null, action);
        }

        // Callers end these messages themselves.
        static void Static(string message)
        {
            if (message != null && message.EndsWith("\n", StringComparison.Ordinal)) message = message.Substring(0, message.Length - 1);
            Line(null, null, message, null);
        }

        static void StaticLevel(string level, string message, object[] args) { Line(level, null, message, args); }

        static int IndexOf(string level)
        {
            if (level != null)
                for (int i = 0; i < Levels.Length; i++)
                    if (string.Equals(Levels[i], level, StringComparison.OrdinalIgnoreCase)) return i;
            return -1;
        }

        /// <summary>One record to stdout; `level` may be null or a word of the handler's own.</summary>
        public static void Line(string level, Exception exception, string message, object[] args)
        {
            Line(1, level, exception, message, args);
        }

        public static void Line(int fd, string level, Exception exception, string message, object[] args)
        {
            int known = IndexOf(level);
            if (known >= 0 && known < _least) return;
            StringBuilder line = new StringBuilder();
            if (_json && !_plain) AppendJson(line, known < 0 ? level ?? "Information" : Levels[known], exception, message ?? "", args);
            else
            {
                if (!_plain)
                {
                    line.Append(Now()).Append('\t').Append(RequestId).Append('\t');
                    if (level != null) line.Append(known < 0 ? level : Labels[known]).Append('\t');
                }
                line.Append(args == null || args.Length == 0 ? message : Template.Fill(message ?? "", args));
                if (exception != null) line.Append(string.IsNullOrEmpty(message) ? "" : "\n").Append(exception);
            }
            Put(fd, line.Append('\n').ToString());
        }

        static string Now()
        {
            return DateTime.UtcNow.ToString("yyyy-MM-ddTHH:mm:ss.fffZ", CultureInfo.InvariantCulture);
        }

        static void AppendJson(StringBuilder line, string level, Exception exception, string message, object[] args)
        {
            Json.Quote(line.Append("{\"timestamp\":"), Now());
            Json.Quote(line.Append(",\"level\":"), level);
            if (!string.IsNullOrEmpty(RequestId)) Json.Quote(line.Append(",\"requestId\":"), RequestId);
            if (!string.IsNullOrEmpty(TenantId)) Json.Quote(line.Append(",\"tenantId\":"), TenantId);
            if (!string.IsNullOrEmpty(TraceId)) Json.Quote(line.Append(",\"traceId\":"), TraceId);
            bool filled = args != null && args.Length > 0;
            Json.Quote(line.Append(",\"message\":"), filled ? Template.Fill(message, args) : message);
            if (filled) Template.AppendProperties(line, message, args);
            if (exception != null)
            {
                Json.Quote(line.Append(",\"errorType\":"), exception.GetType().FullName);
                Json.Quote(line.Append(",\"errorMessage\":"), exception.Message);
                string[] lines = exception.ToString().Split('\n');
                for (int i = 0; i < lines.Length; i++) Json.Quote(line.Append(i == 0 ? ",\"stackTrace\":[" : ","), lines[i].Trim());
                line.Append(']');
            }
            line.Append('}');
        }

        public static void Put(int fd, string text)
        {
            byte[] bytes = Encoding.UTF8.GetBytes(text);
            if (!Muted) Libc.Write(fd, bytes, 0, bytes.Length);
        }
    }

    /// <summary>Console.Out or Console.Error: whole lines become records, the rest goes out as it is.</summary>
    sealed class LogWriter : TextWriter
    {
        readonly int _fd;
        readonly string _level;

        public LogWriter(int fd, string level)
        {
            _fd = fd;
            _level = level;
        }

        public override Encoding Encoding { get { return Encoding.UTF8; } }

        public override void Write(char value) { Log.Put(_fd, value.ToString()); }
        public override void Write(string value) { if (!string.IsNullOrEmpty(value)) Log.Put(_fd, value); }
        public override void Write(char[] buffer, int index, int count) { Log.Put(_fd, new string(buffer, index, count)); }
        public override Task WriteAsync(char value) { Write(value); return Task.CompletedTask; }
        public override Task WriteAsync(string value) { Write(value); return Task.CompletedTask; }
        public override Task WriteAsync(char[] buffer, int index, int count) { Write(buffer, index, count); return Task.CompletedTask; }

        public override void WriteLine(string value) { Log.Line(_fd, _level, null, value, null); }
        public override void WriteLine() { WriteLine(""); }
        public override void WriteLine(object value) { WriteLine(Convert.ToString(value)); }
        public override void WriteLine(bool value) { WriteLine(value.ToString()); }
        public override void WriteLine(char value) { WriteLine(value.ToString()); }
        public override void WriteLine(char[] buffer) { WriteLine(buffer == null ? "" : new string(buffer)); }
        public override void WriteLine(char[] buffer, int index, int count) { WriteLine(new string(buffer, index, count)); }
        public override void WriteLine(decimal value) { WriteLine(value.ToString(FormatProvider)); }
        public override void WriteLine(double value) { WriteLine(value.ToString(FormatProvider)); }
        public override void WriteLine(float value) { WriteLine(value.ToString(FormatProvider)); }
        public override void WriteLine(int value) { WriteLine(value.ToString(FormatProvider)); }
        public override void WriteLine(uint value) { WriteLine(value.ToString(FormatProvider)); }
        public override void WriteLine(long value) { WriteLine(value.ToString(FormatProvider)); }
        public override void WriteLine(ulong value) { WriteLine(value.ToString(FormatProvider)); }
        public override void WriteLine(string format, object arg0) { WriteLine(string.Format(FormatProvider, format, arg0)); }
        public override void WriteLine(string format, object arg0, object arg1) { WriteLine(string.Format(FormatProvider, format, arg0, arg1)); }
        public override void WriteLine(string format, object arg0, object arg1, object arg2) { WriteLine(string.Format(FormatProvider, format, arg0, arg1, arg2)); }
        public override void WriteLine(string format, params object[] arg) { WriteLine(string.Format(FormatProvider, format, arg)); }
        public override void WriteLine(StringBuilder value) { WriteLine(Convert.ToString(value)); }
        public override void WriteLine(ReadOnlySpan<char> buffer) { WriteLine(buffer.ToString()); }
        public override Task WriteLineAsync() { WriteLine(""); return Task.CompletedTask; }
        public override Task WriteLineAsync(char value) { WriteLine(value); return Task.CompletedTask; }
        public override Task WriteLineAsync(string value) { WriteLine(value); return Task.CompletedTask; }
        public override Task WriteLineAsync(char[] buffer, int index, int count) { WriteLine(buffer, index, count); return Task.CompletedTask; }
        public override Task WriteLineAsync(ReadOnlyMemory<char> buffer, CancellationToken cancellationToken) { WriteLine(buffer.ToString()); return Task.CompletedTask; }
        public override Task WriteLineAsync(StringBuilder value, CancellationToken cancellationToken) { WriteLine(Convert.ToString(value)); return Task.CompletedTask; }
    }
}
