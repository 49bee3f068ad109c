// Blacks out parts of a JSON document: the values that JSONPath expressions select.
//
//   {"document": {"user": {"name": "Ada", "mail": "ada@example.org"}}, "paths": ["$.user.mail"]}
//   {"document": {"user": {"name": "Ada", "mail": "***"}}, "redacted": 1}
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using Amazon.Lambda.Core;
using Newtonsoft.Json;
using Newtonsoft.Json.Linq;

[assembly: LambdaSerializer(typeof(Redact.TreeSerializer))]

namespace Redact
{
    public class Function
    {
        public JObject Handle(JObject request, ILambdaContext context)
        {
            JToken document = request["document"];
            string mask = (string)request["mask"] ?? "***";
            int redacted = 0;
            foreach (string path in (request["paths"] ?? new JArray()).Select(p => (string)p))
            {
                List<JToken> found = document.SelectTokens(path).Where(t => t != document).ToList();
                foreach (JToken token in found) token.Replace(new JValue(mask));
                context.Logger.LogLine(path + ": " + found.Count);
                redacted += found.Count;
            }
            return new JObject(new JProperty("document", document), new JProperty("redacted", redacted));
        }
    }

    /// <summary>Events and results as Json.NET's trees, with numbers and dates as they were written.</summary>
    public class TreeSerializer : ILambdaSerializer
    {
        public T Deserialize<T>(Stream requestStream)
        {
            JsonTextReader reader = new JsonTextReader(new StreamReader(requestStream)) { DateParseHandling = DateParseHandling.None, FloatParseHandling = FloatParseHandling.Decimal };
            return (T)(object)JToken.ReadFrom(reader);
        }

        public void Serialize<T>(T response, Stream responseStream)
        {
            JsonTextWriter writer = new JsonTextWriter(new StreamWriter(responseStream, new UTF8Encoding(false)));
            ((JToken)(object)response).WriteTo(writer);
            writer.Flush();
        }
    }
}
