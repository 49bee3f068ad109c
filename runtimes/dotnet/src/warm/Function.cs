// A package for starts ahead of time: what most functions do, done once before there is one, so that it is loaded and compiled
// by then. Built with contract/ into an assembly of its own; no function ever runs in it.
using System;
using System.Collections.Generic;
using System.IO;
using System.Reflection;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Threading.Tasks;
using Amazon.Lambda.Core;

[assembly: LambdaSerializer(typeof(Kennel.Warm.Serializer))]

namespace Amazon.Lambda.Core
{
    public static class LambdaLogger
    {
        static Action<string> _loggingAction;
        static Action<string, string, object[]> _loggingWithLevelAction;
        static Action<string, Exception, string, object[]> _loggingWithLevelAndExceptionAction;

        public static void Log(string message)
        {
            _loggingAction(message);
            _loggingWithLevelAction("Information", message, new object[] { 1 });
            _loggingWithLevelAndExceptionAction("Error", null, message, null);
        }
    }
}

namespace Kennel.Warm
{
    public class Item
    {
        public string Name { get; set; }
    }

    public class Thing
    {
        public string Name { get; set; }
        public int Count { get; set; }
        public long Size { get; set; }
        public double Ratio { get; set; }
        public decimal Price { get; set; }
        public bool Yes { get; set; }
        public int? Maybe { get; set; }
        public DateTime When { get; set; }
        public List<string> Tags { get; set; }
        public Dictionary<string, string> Map { get; set; }
        public IDictionary<string, string> Headers { get; set; }
        public Item Inner { get; set; }
        public List<Item> Items { get; set; }
        public Item[] More { get; set; }
        public object Any { get; set; }
    }

    public class Record
    {
        public Record(string name, int count, decimal price, bool yes)
        {
            Name = name;
            Count = count;
            Price = price;
            Yes = yes;
        }

        public string Name { get; }
        public int Count { get; }
        public decimal Price { get; }
        public bool Yes { get; }
    }

    public class Function
    {
        public Thing Objects(Thing thing)
        {
            if (thing == null) throw new ArgumentException("nothing", new InvalidOperationException("at all"));
            LambdaLogger.Log("{count} of them\n");
            Console.WriteLine("{0} has {1}", thing.Name, thing.Count);
            thing.Headers = thing.Map;
            thing.More = thing.Items.ToArray();
            return thing;
        }

        public Record Records(Record record)
        {
            return record;
        }

        public Stream Streams(Stream input)
        {
            string text = new StreamReader(input).ReadToEnd();
            return new MemoryStream(Encoding.UTF8.GetBytes(text.ToUpperInvariant()));
        }

        public async Task<Item> Later(JsonElement anything)
        {
            await Task.Delay(1);
            return new Item { Name = anything.ToString() };
        }

        public async Task Nothing(Stream input)
        {
            await Task.Yield();
        }

        public static string Static(object anything)
        {
            Console.Error.WriteLine(anything);
            return "done";
        }
    }

    /// <summary>Calls what the usual serializers call.</summary>
    public class Serializer : ILambdaSerializer
    {
        sealed class Names : JsonNamingPolicy
        {
            public override string ConvertName(string name) { return name; }
        }

        readonly JsonSerializerOptions _options = new JsonSerializerOptions { PropertyNameCaseInsensitive = true, PropertyNamingPolicy = new Names() };

        public Serializer()
        {
            // Obsolete by now, its successor too new for the oldest .NET here.
            PropertyInfo ignore = _options.GetType().GetProperty("IgnoreNullValues");
            if (ignore != null) ignore.SetValue(_options, true);
        }

        public T Deserialize<T>(Stream requestStream)
        {
            MemoryStream all = new MemoryStream();
            requestStream.CopyTo(all);
            return JsonSerializer.Deserialize<T>(new ReadOnlySpan<byte>(all.GetBuffer(), 0, (int)all.Length), _options);
        }

        public void Serialize<T>(T response, Stream responseStream)
        {
            using (Utf8JsonWriter writer = new Utf8JsonWriter(responseStream, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
                JsonSerializer.Serialize(writer, response, _options);
        }
    }
}
