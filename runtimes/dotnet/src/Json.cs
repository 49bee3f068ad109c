using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace Kennel
{
    /// <summary>Just enough JSON for the two headers that hold some, and for log lines and errors.</summary>
    /// <remarks>System.Text.Json is not in every runtime, and slow to load where the package does not need it.</remarks>
    static class Json
    {
        /// <summary>The object in `text`, or null if there is none. Numbers and literals stay text.</summary>
        public static IDictionary<string, object> Parse(string text)
        {
            if (string.IsNullOrEmpty(text)) return null;
            int at = 0;
            return Value(text, ref at) as IDictionary<string, object>;
        }

        public static string Get(IDictionary<string, string> from, string key)
        {
            string value;
            return from != null && from.TryGetValue(key, out value) ? value : null;
        }

        public static string Text(IDictionary<string, object> from, string key)
        {
            object value;
            return from != null && from.TryGetValue(key, out value) ? value as string : null;
        }

        /// <summary>The object under `key` with text values, or null.</summary>
        public static IDictionary<string, string> Strings(IDictionary<string, object> from, string key)
        {
            object value;
            if (from == null || !from.TryGetValue(key, out value)) return null;
            IDictionary<string, object> map = value as IDictionary<string, object>;
            if (map == null) return null;
            Dictionary<string, string> result = new Dictionary<string, string>();
            foreach (KeyValuePair<string, object> pair in map) result[pair.Key] = pair.Value as string ?? "";
            return result;
        }

        static object Value(string s, ref int at)
        {
            Space(s, ref at);
            char c = s[at];
            if (c == '"') return Quoted(s, ref at);
            if (c == '{' || c == '[')
            {
                Dictionary<string, object> map = new Dictionary<string, object>();
                List<object> list = new List<object>();
                char close = c == '{' ? '}' : ']';
                at++;
                for (Space(s, ref at); s[at] != close; Space(s, ref at))
                {
                    if (s[at] == ',')
                    {
                        at++;
                        continue;
                    }
                    if (c == '[')
                    {
                        list.Add(Value(s, ref at));
                        continue;
                    }
                    string key = Quoted(s, ref at);
                    Space(s, ref at);
                    at++;  // the colon
                    map[key] = Value(s, ref at);
                }
                at++;
                return c == '{' ? (object)map : list;
            }
            int from = at;
            while (at < s.Length && ",]} \t\r\n".IndexOf(s[at]) < 0) at++;
            string word = s.Substring(from, at - from);
            return word == "null" ? null : word;
        }

        static void Space(string s, ref int at)
        {
            while (at < s.Length && s[at] <= ' ') at++;
            if (at >= s.Length) throw new FormatException("JSON ends too early");
        }

        static string Quoted(string s, ref int at)
        {
            StringBuilder text = new StringBuilder();
            for (at++; s[at] != '"'; at++)
            {
                if (s[at] != '\\')
                {
                    text.Append(s[at]);
                    continue;
                }
                at++;
                int plain = "bfnrt".IndexOf(s[at]);
                if (plain >= 0) text.Append("\b\f\n\r\t"[plain]);
                else if (s[at] != 'u') text.Append(s[at]);
                else
                {
                    text.Append((char)int.Parse(s.Substring(at + 1, 4), NumberStyles.HexNumber));
                    at += 4;
                }
            }
            at++;
            return text.ToString();
        }

        /// <summary>Appends `text` as a JSON string.</summary>
        public static StringBuilder Quote(StringBuilder to, string text)
        {
            to.Append('"');
            for (int i = 0; i < text.Length; i++)
            {
                char c = text[i];
                if (c == '"' || c == '\\') to.Append('\\').Append(c);
                else if (c == '\n') to.Append("\\n");
                else if (c == '\r') to.Append("\\r");
                else if (c == '\t') to.Append("\\t");
                else if (c < ' ') to.Append("\\u").Append(((int)c).ToString("x4"));
                else to.Append(c);
            }
            return to.Append('"');
        }
    }
}
