using System;
using System.Collections.Generic;
using System.IO;
using System.Reflection;
using System.Text.Json;

namespace Kennel
{
    /// <summary>A package that comes into a process that runs already: what its host would have done with its deps.json and
    /// runtimeconfig.json, and whether it is too late for that.</summary>
    /// <remarks>
    /// The host puts the package's assemblies beside the framework's, in one list that cannot be changed later. Those that
    /// are in no list are asked for at Program.FromTaskRoot, which finds them at the same place. Too late it is for another
    /// version of the framework or of an assembly of it, for another framework, for libraries in folders of their own, and for
    /// settings that .NET has read by then: the package needs a start of its own.
    /// </remarks>
    sealed class Package
    {
        const string Framework = "Microsoft.NETCore.App";
        const string Assemblies = "TRUSTED_PLATFORM_ASSEMBLIES", DepsFiles = "APP_CONTEXT_DEPS_FILES", BaseDirectory = "APP_CONTEXT_BASE_DIRECTORY";

        static readonly string[] Told = { BaseDirectory, DepsFiles, Assemblies };

        // The host's own word for these is in the environment, and comes first (runtime.toml).
        static readonly string[] Overruled = { "System.GC.Server", "System.GC.Concurrent", "System.Runtime.TieredPGO" };
        static readonly string[] TrueAnyway = {
            "System.Runtime.TieredCompilation", "System.Runtime.TieredCompilation.QuickJit", "System.Runtime.TieredCompilation.QuickJitForLoops",
            "System.Text.Json.JsonSerializer.IsReflectionEnabledByDefault", "System.Diagnostics.Tracing.EventSource.IsSupported" };
        // Read when what they are about is used for the first time, which no start ahead does. So are all that are not .NET's own.
        static readonly string[] ReadLate = {
            "System.ComponentModel.", "System.Linq.", "System.Net.", "System.Reflection.", "System.Resources.ResourceManager.", "System.Runtime.InteropServices.",
            "System.Runtime.Serialization.", "System.Security.", "System.StartupHookProvider.", "System.Xml." };

        readonly string _root, _tasks, _version;
        readonly bool _invariant;
        string _deps; // null: the package has none
        readonly List<KeyValuePair<string, string>> _settings = new List<KeyValuePair<string, string>>();
        readonly List<KeyValuePair<string, string>> _before = new List<KeyValuePair<string, string>>();
        readonly List<string> _assemblies = new List<string>();

        /// <param name="version">The framework's, of this process.</param>
        /// <param name="invariant">Whether this process knows no cultures.</param>
        public Package(string root, string version, bool invariant)
        {
            _root = root;
            _version = version;
            _invariant = invariant;
            _tasks = root.EndsWith("/", StringComparison.Ordinal) ? root : root + "/";
        }

        /// <summary>Whether this process is as the package's own would have been started; else it must start anew.</summary>
        public bool Fits(string handler)
        {
            int end = handler == null ? -1 : handler.IndexOf("::", StringComparison.Ordinal);
            if (end < 0) return false;
            string name = handler.Substring(0, end);
            if (name.EndsWith(".dll", StringComparison.Ordinal)) name = name.Substring(0, name.Length - 4);
            string deps = _tasks + name + ".deps.json", config = _tasks + name + ".runtimeconfig.json";
            if (name.IndexOf('/') >= 0 || !File.Exists(deps) || !File.Exists(config))
                // As the launch script has it: without the two, a package starts as this process did.
                return Directory.GetFiles(_root, "*.deps.json").Length == 0 || Directory.GetFiles(_root, "*.runtimeconfig.json").Length == 0;
            try
            {
                if (File.Exists(_tasks + name + ".runtimeconfig.dev.json") || !Configured(config) || !Resolved(deps)) return false;
            }
            catch (Exception)
            {
                return false; // not as expected: the host's own message is the better one
            }
            _deps = deps;
            return true;
        }

        /// <summary>Has libraries that ask find what the host would have told them.</summary>
        public void Enter()
        {
            if (_deps == null) return;
            foreach (string name in Told) _before.Add(new KeyValuePair<string, string>(name, AppContext.GetData(name) as string));
            Set(BaseDirectory, _tasks);
            Set(DepsFiles, _deps + ";" + AppContext.GetData("FX_DEPS_FILE"));
            Set(Assemblies, (AppContext.GetData(Assemblies) as string).TrimEnd(':') + ":" + string.Join(":", _assemblies));
            foreach (KeyValuePair<string, string> setting in _settings) Set(setting.Key, setting.Value);
        }

        /// <summary>As if Enter had not been called, but for the package's own settings.</summary>
        public void Leave()
        {
            foreach (KeyValuePair<string, string> value in _before) Set(value.Key, value.Value);
        }

        static void Set(string name, string value)
        {
            AppDomain.CurrentDomain.SetData(name, value);
        }

        bool Configured(string path)
        {
            using (JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(path)))
            {
                bool framework = false;
                foreach (JsonProperty option in document.RootElement.GetProperty("runtimeOptions").EnumerateObject())
                {
                    if (option.Name == "configProperties")
                    {
                        foreach (JsonProperty setting in option.Value.EnumerateObject())
                            if (!Settled(setting.Name, setting.Value.ToString())) return false;
                    }
                    else if (option.Name == "framework") framework = IsThis(option.Value);
                    else if (option.Name != "tfm") return false;
                }
                return framework;
            }
        }

        // Without a setting of its own a package runs on the version that it names, by its first two numbers, or on the nearest above.
        // The nearest is this one, for the process was started with the one that the function's runtime has (launch).
        bool IsThis(JsonElement framework)
        {
            foreach (JsonProperty property in framework.EnumerateObject())
                if (property.Name != "name" && property.Name != "version") return false;
            return framework.GetProperty("name").GetString() == Framework && Nearest(Version.Parse(framework.GetProperty("version").GetString()));
        }

        bool Nearest(Version wanted)
        {
            Version running = Version.Parse(_version);
            if (running < wanted) return false;
            if (running.Major == wanted.Major && running.Minor == wanted.Minor) return true;
            // Of other versions beside this one, one may be nearer.
            string all = Path.GetDirectoryName(Path.GetDirectoryName(typeof(object).Assembly.Location));
            return Directory.GetDirectories(all).Length == 1;
        }

        bool Settled(string name, string value)
        {
            if (Array.IndexOf(Overruled, name) < 0 && !(Array.IndexOf(TrueAnyway, name) >= 0 && Is(value, true))
                && !(name == "System.Globalization.Invariant" && Is(value, _invariant)) && !IsReadLate(name)) return false;
            _settings.Add(new KeyValuePair<string, string>(name, value == "True" ? "true" : value == "False" ? "false" : value));
            return true;
        }

        static bool Is(string value, bool wanted)
        {
            return string.Equals(value, wanted ? "true" : "false", StringComparison.OrdinalIgnoreCase);
        }

        static bool IsReadLate(string name)
        {
            if (!name.StartsWith("System.", StringComparison.Ordinal) && !name.StartsWith("Microsoft.", StringComparison.Ordinal)) return true;
            foreach (string start in ReadLate)
                if (name.StartsWith(start, StringComparison.Ordinal)) return true;
            return false;
        }

        bool Resolved(string path)
        {
            using (JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(path)))
            {
                JsonElement target = document.RootElement.GetProperty("runtimeTarget");
                string name = target.ValueKind == JsonValueKind.String ? target.GetString() : target.GetProperty("name").GetString();
                foreach (JsonProperty library in document.RootElement.GetProperty("targets").GetProperty(name).EnumerateObject())
                {
                    foreach (JsonProperty part in library.Value.EnumerateObject())
                    {
                        if (part.Name == "runtime")
                        {
                            foreach (JsonProperty asset in part.Value.EnumerateObject())
                                if (!Found(asset.Name)) return false;
                        }
                        else if (part.Name == "native") return false;
                        else if (part.Name == "runtimeTargets")
                        {
                            foreach (JsonProperty asset in part.Value.EnumerateObject())
                                if (!asset.Value.GetProperty("rid").GetString().StartsWith("win", StringComparison.Ordinal)) return false;
                        }
                        else if (part.Name != "dependencies" && part.Name != "resources" && part.Name != "compile") return false;
                    }
                }
                return true;
            }
        }

        bool Found(string asset)
        {
            string file = asset.Substring(asset.LastIndexOf('/') + 1), path = _tasks + file;
            string all = AppContext.GetData(Assemblies) + ":";
            // Which of two is the newer is the host's to find out.
            if (!file.EndsWith(".dll", StringComparison.OrdinalIgnoreCase) || all.IndexOf("/" + file + ":", StringComparison.OrdinalIgnoreCase) >= 0 || !File.Exists(path)) return false;
            _assemblies.Add(path);
            return true;
        }
    }
}
