using System;
using System.Globalization;
using System.IO;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Threading.Tasks;

namespace Kennel
{
    /// <summary>What is wrong with a handler's name or signature; the type's name is AWS's.</summary>
    sealed class LambdaValidationException : Exception
    {
        public LambdaValidationException(string format, params object[] values) : base(string.Format(CultureInfo.InvariantCulture, format, values)) { }
    }

    /// <summary>The method that a handler names, ready to be called.</summary>
    sealed class Handler
    {
        public const string Core = "Amazon.Lambda.Core.";
        /// <summary>Where types of that name normally lie.</summary>
        public static string CoreAssembly = "Amazon.Lambda.Core";
        const string Form = "The valid format is 'ASSEMBLY::TYPE::METHOD'.";
        const BindingFlags Declared = BindingFlags.DeclaredOnly | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static;
        // .NET Core 2.1's BindingFlags.DoNotWrapExceptions: what the handler throws comes out as it is.
        const BindingFlags Direct = (BindingFlags)0x02000000;

        string _assemblyName, _typeName, _methodName;
        Assembly _assembly;
        MethodInfo _method;
        object _target;
        Type _inputType, _contextType, _resultType;  // null: none
        MethodInfo _unwrap;                           // ValueTask's AsTask
        bool _awaited;                                // the method gives a Task
        PropertyInfo _taskResult;                     // Task<T>'s Result
        object _serializer;
        MethodInfo _deserialize, _serialize;          // null: a plain stream
        bool _proxies;                                // Context.cs does not fit this package

        public void Load(string handler)
        {
            Parse(handler);
            try
            {
                _assembly = Assembly.Load(new AssemblyName(_assemblyName));
            }
            catch (FileNotFoundException e)
            {
                throw new LambdaValidationException("Could not find the specified handler assembly with the file name '{0}'. "
                    + "The assembly should be located in the root of your uploaded .zip file.", e.FileName);
            }
            catch (Exception e)
            {
                throw new LambdaValidationException("Unable to load assembly '{0}'. {1}", _assemblyName, e.Message);
            }
            Type type = _assembly.GetType(_typeName);
            if (type == null) throw new LambdaValidationException("Unable to load type '{0}' from assembly '{1}'.", _typeName, _assemblyName);
            _method = Find(type);
            CheckMethod(type);
            Signature();
            Type logger = CoreType("LambdaLogger");
            if (logger != null) Log.Redirect(logger);
            if (_method.IsStatic) RuntimeHelpers.RunClassConstructor(type.TypeHandle);
            else _target = Activator.CreateInstance(type);
            if (_inputType != null && _inputType != typeof(Stream))
                _deserialize = Serializing("Deserialize", "deserialize input data", _inputType);
            if (_resultType != null && !typeof(Stream).IsAssignableFrom(_resultType))
                _serialize = Serializing("Serialize", "serialize output data", _resultType);
        }

        public void Invoke(Stream input, Invocation invocation, MemoryStream output)
        {
            object[] arguments = new object[(_inputType != null ? 1 : 0) + (_contextType != null ? 1 : 0)];
            if (_inputType != null)
                arguments[0] = _deserialize == null ? input : Call(_deserialize, _serializer, new object[] { input });
            if (_contextType != null)
                arguments[arguments.Length - 1] = NewContext(invocation);
            object result = Call(_method, _target, arguments);
            if (_unwrap != null) result = Call(_unwrap, result, null);
            if (_awaited && result != null)
            {
                Task task = (Task)result;
                task.GetAwaiter().GetResult();
                result = _taskResult == null ? null : _taskResult.GetValue(task);
            }
            if (_resultType == null) return;
            if (_serialize != null) Call(_serialize, _serializer, new object[] { result, output });
            else if (result != null) ((Stream)result).CopyTo(output);
        }

        static object Call(MethodInfo method, object target, object[] arguments)
        {
            return method.Invoke(target, Direct, null, arguments, null);
        }

        void Parse(string handler)
        {
            if (string.IsNullOrEmpty(handler)) throw new LambdaValidationException("Empty lambda function handler. " + Form);
            int one = handler.IndexOf("::", StringComparison.Ordinal);
            int two = one < 0 ? -1 : handler.IndexOf("::", one + 2, StringComparison.Ordinal);
            if (two < 0) throw new LambdaValidationException("Invalid lambda function handler: '{0}'. " + Form, handler);
            _assemblyName = handler.Substring(0, one).Trim();
            _typeName = handler.Substring(one + 2, two - one - 2).Trim();
            _methodName = handler.Substring(two + 2).Trim();
            string missing = _assemblyName == "" ? "assembly" : _typeName == "" ? "type" : _methodName == "" ? "method" : null;
            if (missing != null) throw new LambdaValidationException("Invalid lambda function handler: '{0}', the {1} is missing. " + Form, handler, missing);
        }

        // By name, else by whole signature as MethodInfo.ToString() has it; the type's own methods before its bases'.
        MethodInfo Find(Type type)
        {
            for (Type t = type; t != null; t = t.BaseType)
            {
                MethodInfo m = FindDeclared(t);
                if (m != null) return m;
            }
            return FindBySignature(type);
        }

        // Apart from the loop: a loop around a `try` is compiled with full optimisation at once, which takes longer.
        MethodInfo FindDeclared(Type type)
        {
            try
            {
                return type.GetMethod(_methodName, Declared);
            }
            catch (AmbiguousMatchException)
            {
                throw Overloaded(type);
            }
        }

        MethodInfo FindBySignature(Type type)
        {
            for (Type t = type; t != null && _methodName.IndexOf(' ') > 0; t = t.BaseType)
                foreach (MethodInfo m in t.GetMethods(Declared))
                    if (m.ToString() == _methodName) return m;
            throw new LambdaValidationException("Unable to find method '{0}' in type '{1}' from assembly '{2}': Found no methods matching method name '{0}'.",
                _methodName, _typeName, _assemblyName);
        }

        Exception Overloaded(Type type)
        {
            string candidates = "";
            foreach (MethodInfo m in type.GetMethods(Declared))
                if (m.Name == _methodName) candidates += (candidates == "" ? "" : "\n") + m;
            return new LambdaValidationException("The method '{0}' in type '{1}' appears to have a number of overloads. To call this method please specify "
                + "a complete method signature. Possible candidates are:\n{2}.", _methodName, type.FullName, candidates);
        }

        void CheckMethod(Type type)
        {
            string reason = null;
            if (_method.IsAbstract) reason = "it is an abstract method. Handler methods cannot be abstract. Please specify a non-abstract handler method.";
            else if (_method.IsGenericMethod) reason = "it is a generic method. Handler methods cannot be generic. Please specify a non-generic handler method.";
            else if (_method.ReturnType == typeof(void) && _method.IsDefined(typeof(AsyncStateMachineAttribute), false))
                reason = "it is an 'async void' method. Handler methods cannot be 'async void'. Please specify a method that is not 'async void'.";
            if (reason != null) throw new LambdaValidationException("The method '{0}' cannot be used as a Lambda Handler because {1}", _method, reason);
            if (type.IsGenericType)
                throw new LambdaValidationException("The type '{0}' cannot be used as a Lambda Handler type because it is generic. "
                    + "Handler methods cannot be located in generic types. Please specify a handler method in a non-generic type.", type.FullName);
            if (!_method.IsStatic && type.IsAbstract)
                throw new LambdaValidationException("The instance method '{0}' cannot be used as a Lambda Handler because its type '{1}' is abstract. "
                    + "Please either use a static handler or specify a type that is not abstract.", _method, type.FullName);
        }

        void Signature()
        {
            ParameterInfo[] parameters = _method.GetParameters();
            if (parameters.Length > 2)
                throw new LambdaValidationException("Method '{0}' of type '{1}' is not supported: the method has more than 2 parameters.", _method.Name, _typeName);
            if (parameters.Length == 2 && !IsContext(parameters[1].ParameterType))
                throw new LambdaValidationException("Method '{0}' of type '{1}' is not supported: the method has 2 parameters, "
                    + "but the second parameter is not of type '" + Core + "ILambdaContext'.", _method.Name, _typeName);
            for (int i = 0; i < parameters.Length; i++)
            {
                Type type = parameters[i].ParameterType;
                if (i == parameters.Length - 1 && IsContext(type)) _contextType = type;
                else _inputType = type;
            }
            if (_method.ReturnType != typeof(void)) Result(_method.ReturnType);
        }

        void Result(Type result)
        {
            if (result.IsValueType && result.FullName.StartsWith("System.Threading.Tasks.ValueTask", StringComparison.Ordinal))
            {
                _unwrap = result.GetMethod("AsTask");
                result = _unwrap.ReturnType;
            }
            _awaited = typeof(Task).IsAssignableFrom(result);
            if (!_awaited)
            {
                _resultType = result;
                return;
            }
            while (result != typeof(Task) && !(result.IsGenericType && result.GetGenericTypeDefinition() == typeof(Task<>))) result = result.BaseType;
            if (result == typeof(Task)) return;
            _taskResult = result.GetProperty("Result");
            _resultType = result.GetGenericArguments()[0];
        }

        static bool IsContext(Type type)
        {
            return type.FullName == Core + "ILambdaContext";
        }

        // The package's own type of that name: from the assembly it normally lies in, else from the handler's.
        Type CoreType(string name)
        {
            return Type.GetType(Core + name + ", " + CoreAssembly, false) ?? _assembly.GetType(Core + name);
        }

        MethodInfo Serializing(string method, string what, Type type)
        {
            if (_serializer == null) _serializer = NewSerializer();
            if (_serializer == null)
                throw new LambdaValidationException("Could not find the LambdaSerializerAttribute on the assembly '{0}' or method '{1}' while attempting to {2} of type '{3}'. "
                    + "To use types other than System.IO.Stream as input/output parameters, the assembly or Lambda function should be annotated with "
                    + Core + "LambdaSerializerAttribute.", _assemblyName, _methodName, what, type.FullName);
            return _serializer.GetType().GetInterface(Core + "ILambdaSerializer").GetMethod(method).MakeGenericMethod(type);
        }

        object NewSerializer()
        {
            object attribute = SerializerAttribute();
            if (attribute == null) return null;
            Type type = (Type)attribute.GetType().GetProperty("SerializerType").GetValue(attribute);
            if (type == null)
                throw new LambdaValidationException("The 'SerializerType' property on attribute class '{0}' is not set.", attribute.GetType().FullName);
            ConstructorInfo constructor = type.GetConstructor(Type.EmptyTypes);
            if (constructor == null)
                throw new LambdaValidationException("The indicated serializer '{0}' does not define a public zero-parameter constructor.", type.FullName);
            if (type.GetInterface(Core + "ILambdaSerializer") == null)
                throw new LambdaValidationException("The '{0}' class is invalid: it does not implement the 'ILambdaSerializer' interface.", type.FullName);
            return constructor.Invoke(null);
        }

        object SerializerAttribute()
        {
            // Asked for by type, only that attribute is made, not all that an assembly has.
            Type type = CoreType("LambdaSerializerAttribute");
            if (type != null)
            {
                object[] found = _method.GetCustomAttributes(type, false);
                if (found.Length == 0) found = _assembly.GetCustomAttributes(type, false);
                if (found.Length > 0) return found[0];
            }
            foreach (object a in _method.GetCustomAttributes(false))
                if (a.GetType().FullName == Core + "LambdaSerializerAttribute") return a;
            foreach (object a in _assembly.GetCustomAttributes(false))
                if (a.GetType().FullName == Core + "LambdaSerializerAttribute") return a;
            return null;
        }

        object NewContext(Invocation invocation)
        {
            if (!_proxies)
            {
                try
                {
                    object context = Contract.NewContext(invocation, this);
                    if (_contextType.IsInstanceOfType(context)) return context;
                }
                catch (IOException) { }         // no Amazon.Lambda.Core
                catch (TypeLoadException) { }   // one with members that Context.cs does not know
                _proxies = true;
            }
            return Proxies.NewContext(_contextType, invocation, this);
        }

        /// <summary>The function's serializer, for ILambdaContext.Serializer; null if it has none.</summary>
        public object Serializer
        {
            get { return _serializer ?? (_serializer = NewSerializer()); }
        }
    }
}
