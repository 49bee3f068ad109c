using System;
using System.Collections;
using System.Collections.Generic;
using System.Globalization;
using System.Reflection;
using System.Text;
using System.Text.Json;

namespace Kennel
{
    /// <summary>Log messages with named or numbered places for values: `{count} of {name}`, `{0:N2}`, `{@order}`.</summary>
    /// <remarks>As AWS's runtimes fill them in: `{{` stays as it is, and so does a place that there is no value for.</remarks>
    static class Template
    {
        const string DateAndTime = "yyyy-MM-ddTHH:mm:ss.fffZ";
        const int BytesShown = 16;
        static JsonSerializerOptions _options;

        struct Place
        {
            public int Start, End; // of the braces
            public string Name, Format;
            public bool Serialized;
        }

        /// <summary>Takes the package's own serializer options, `LambdaLogger.ConfigureStructuredLogging`, given before or later.</summary>
        public static void Redirect(Type logger)
        {
            const BindingFlags Hidden = BindingFlags.NonPublic | BindingFlags.Static;
            FieldInfo action = logger.GetField("_configureStructuredLoggingAction", Hidden), before = logger.GetField("_placeHolderStructuredLoggingOptions", Hidden);
            if (action == null) return;
            action.SetValue(null, Delegate.CreateDelegate(action.FieldType, typeof(Template).GetMethod("Configure", Hidden)));
            if (before != null) Configure(before.GetValue(null));
        }

        static void Configure(object options)
        {
            PropertyInfo property = options == null ? null : options.GetType().GetProperty("OverrideSerializerOptions");
            JsonSerializerOptions given = property == null ? null : property.GetValue(options) as JsonSerializerOptions;
            if (given != null) _options = given;
        }

        static List<Place> Places(string message)
        {
            List<Place> places = new List<Place>();
            for (int i = 0; i + 1 < message.Length; i++)
            {
                if (message[i] != '{') continue;
                if (message[i + 1] == '{' || message[i + 1] == '}')
                {
                    i++;
                    continue;
                }
                int end = message.IndexOf('}', i);
                if (end < 0) break;
                Place place = new Place { Start = i, End = end + 1, Serialized = message[i + 1] == '@' };
                int from = place.Serialized ? i + 2 : i + 1, colon = message.IndexOf(':', from, end - from);
                place.Name = message.Substring(from, (colon < 0 ? end : colon) - from).Trim();
                place.Format = colon < 0 ? "" : message.Substring(colon + 1, end - colon - 1).Trim();
                places.Add(place);
                i = end;
            }
            return places;
        }

        // The value of each place: by number if all are numbers without a gap from 0 on, else one after the other. Past the last: none.
        static List<KeyValuePair<Place, object>> Filled(string message, object[] args)
        {
            List<Place> places = Places(message);
            List<int> numbers = new List<int>();
            int highest = -1, distinct = 0;
            foreach (Place place in places)
            {
                int number;
                if (!int.TryParse(place.Name, NumberStyles.Integer, CultureInfo.InvariantCulture, out number) || number < 0) break;
                if (!numbers.Contains(number)) distinct++;
                numbers.Add(number);
                highest = Math.Max(highest, number);
            }
            bool numbered = numbers.Count == places.Count && distinct == highest + 1;
            List<KeyValuePair<Place, object>> filled = new List<KeyValuePair<Place, object>>();
            for (int i = 0; i < places.Count; i++)
            {
                int index = numbered ? numbers[i] : i;
                filled.Add(new KeyValuePair<Place, object>(places[i], index < args.Length ? args[index] : null));
            }
            return filled;
        }

        public static string Fill(string message, object[] args)
        {
            StringBuilder text = new StringBuilder();
            int done = 0;
            foreach (KeyValuePair<Place, object> pair in Filled(message, args))
            {
                text.Append(message, done, pair.Key.Start - done);
                done = pair.Key.End;
                string shown = InMessage(pair.Value, pair.Key.Format);
                if (shown == null) text.Append(message, pair.Key.Start, pair.Key.End - pair.Key.Start);
                else text.Append(shown);
            }
            return text.Append(message, done, message.Length - done).ToString();
        }

        // null: the place itself is shown.
        static string InMessage(object value, string format)
        {
            string bytes = Hexadecimal(value);
            if (bytes != null) return bytes;
            if (value == null || value is IList || value is IDictionary) return null;
            if (format != "") return Formatted(value, format);
            return Moment(value) ?? value.ToString();
        }

        static string Formatted(object value, string format)
        {
            try
            {
                return string.Format("{0:" + format + "}", value);
            }
            catch (FormatException)
            {
                return value.ToString();
            }
        }

        /// <summary>The first bytes and, if there are more, their number; null for anything but bytes.</summary>
        static string Hexadecimal(object value)
        {
            byte[] bytes = value as byte[];
            if (value is ReadOnlyMemory<byte>) bytes = ((ReadOnlyMemory<byte>)value).ToArray();
            else if (value is Memory<byte>) bytes = ((Memory<byte>)value).ToArray();
            if (bytes == null) return null;
            StringBuilder text = new StringBuilder();
            for (int i = 0; i < bytes.Length && i < BytesShown; i++) text.Append(bytes[i].ToString("X2"));
            if (bytes.Length > BytesShown) text.Append("... (").Append(bytes.Length).Append(" bytes)");
            return text.ToString();
        }

        // DateOnly and TimeOnly came with .NET 6: known by name.
        static string Moment(object value)
        {
            string type = value.GetType().FullName;
            string format = value is DateTime || value is DateTimeOffset ? DateAndTime : type == "System.DateOnly" ? "yyyy-MM-dd" : type == "System.TimeOnly" ? "HH:mm:ss.fff" : null;
            return format == null ? null : ((IFormattable)value).ToString(format, CultureInfo.InvariantCulture);
        }

        /// <summary>The values as members of the record: `,"count":3`.</summary>
        public static void AppendProperties(StringBuilder json, string message, object[] args)
        {
            foreach (KeyValuePair<Place, object> pair in Filled(message, args))
            {
                object value = pair.Value;
                if (value == null) continue;
                Json.Quote(json.Append(','), pair.Key.Name).Append(':');
                if (value is IDictionary)
                {
                    string separator = "{";
                    foreach (DictionaryEntry entry in (IDictionary)value)
                    {
                        Json.Quote(json.Append(separator), entry.Key.ToString()).Append(':');
                        AppendValue(json, entry.Value, pair.Key);
                        separator = ",";
                    }
                    json.Append(separator == "{" ? "{}" : "}");
                }
                else if (value is IList && !(value is IList<byte>))
                {
                    string separator = "[";
                    foreach (object item in (IList)value)
                    {
                        AppendValue(json.Append(separator), item, pair.Key);
                        separator = ",";
                    }
                    json.Append(separator == "[" ? "[]" : "]");
                }
                else AppendValue(json, value, pair.Key);
            }
        }

        static void AppendValue(StringBuilder json, object value, Place place)
        {
            if (value == null) json.Append("null");
            else if (place.Serialized) AppendSerialized(json, value);
            else if (place.Format != "") Json.Quote(json, Formatted(value, place.Format));
            else if (value is bool) json.Append((bool)value ? "true" : "false");
            else if (IsNumber(value)) json.Append(Convert.ToString(value, CultureInfo.InvariantCulture));
            else Json.Quote(json, Hexadecimal(value) ?? Moment(value) ?? Convert.ToString(value, CultureInfo.InvariantCulture) ?? "");
        }

        static bool IsNumber(object value)
        {
            switch (value.GetType().IsEnum ? TypeCode.Object : Type.GetTypeCode(value.GetType()))
            {
                case TypeCode.Double: return !double.IsNaN((double)value) && !double.IsInfinity((double)value);
                case TypeCode.Single: return !float.IsNaN((float)value) && !float.IsInfinity((float)value);
                case TypeCode.Byte: case TypeCode.SByte: case TypeCode.Int16: case TypeCode.UInt16: case TypeCode.Int32: case TypeCode.UInt32:
                case TypeCode.Int64: case TypeCode.UInt64: case TypeCode.Decimal: return true;
                default: return false;
            }
        }

        static void AppendSerialized(StringBuilder json, object value)
        {
            string text;
            try
            {
                if (_options == null)
                {
                    JsonSerializerOptions options = new JsonSerializerOptions();
                    PropertyInfo ignore = typeof(JsonSerializerOptions).GetProperty("IgnoreNullValues"); // obsolete by now, its successor too new
                    if (ignore != null) ignore.SetValue(options, true);
                    _options = options;
                }
                text = JsonSerializer.Serialize(value, value.GetType(), _options);
            }
            catch (Exception)
            {
                Json.Quote(json, value.ToString());
                return;
            }
            json.Append(text.Replace('\n', ' ').Replace('\r', ' ')); // between tokens, if indented: a record is one line
        }
    }
}
