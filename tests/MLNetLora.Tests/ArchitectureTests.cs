using MLNetLora.Models;
using MLNetLora.Quantization;
using Mono.Cecil;
using Mono.Cecil.Cil;
using Xunit;

namespace MLNetLora.Tests;

/// <summary>The rooms of the house, by namespaces, as the compiled library has them: signatures and bodies. An arrow points down, and the native
/// runtime is known in one room.</summary>
public class ArchitectureTests
{
    private const string Runtime = "MLNetLora.Runtime";
    private const string NativeRuntime = "Microsoft.ML.OnnxRuntime";

    /// <summary>Height of each room; a room uses itself and what is lower. MLNetLora alone holds the errors, which everybody throws.</summary>
    private static readonly Dictionary<string, int> s_rooms = new()
    {
        ["MLNetLora"] = 0,
        ["MLNetLora.Onnx"] = 1,
        ["MLNetLora.Jinja"] = 1,
        ["MLNetLora.Evaluation"] = 1,
        ["MLNetLora.Checkpoints"] = 2,
        ["MLNetLora.Models"] = 3,
        ["MLNetLora.Adapters"] = 4,
        ["MLNetLora.Quantization"] = 4,
        ["MLNetLora.Artifacts"] = 5,
        [Runtime] = 6,
        ["MLNetLora.Text"] = 6,
        ["MLNetLora.Training"] = 7,
        ["MLNetLora.Inference"] = 7,
        ["MLNetLora.TextGeneration"] = 8,
    };

    private static readonly ILookup<string, TypeReference> s_uses = Uses();

    [Fact]
    public void A_room_uses_only_lower_rooms()
    {
        List<string> wrong = [];
        foreach (IGrouping<string, TypeReference> user in s_uses)
        {
            string own = Room(user.Key[..user.Key.LastIndexOf('.')]) ?? throw new InvalidOperationException($"{user.Key} stands in no room.");
            wrong.AddRange(
                from used in user
                let to = Room(Outermost(used).Namespace)
                where to is not null && to != own && s_rooms[to] >= s_rooms[own]
                select $"{user.Key} -> {to}");
        }

        None(wrong);
    }

    [Fact]
    public void The_native_runtime_is_used_in_one_room()
    {
        string[] users = [.. s_uses
            .Where(user => user.Any(used => Outermost(used).Namespace.StartsWith(NativeRuntime, StringComparison.Ordinal)))
            .Select(user => user.Key)];
        Assert.Contains(users, user => user.StartsWith(Runtime + ".", StringComparison.Ordinal));
        None(users.Where(user => !user.StartsWith(Runtime + ".", StringComparison.Ordinal)));
    }

    [Fact]
    public void Names_of_a_checkpoint_s_tensors_stand_in_the_families_files_alone()
    {
        string source = Path.Combine(Repository.Root, "src", "MLNetLora");
        string[] names = ["model.embed_tokens", "model.layers", "model.norm", "lm_head.weight", "_proj.weight", "layernorm"];
        string[] users = [.. Directory.EnumerateFiles(source, "*.cs", SearchOption.AllDirectories)
            .Where(file => !file.Split(Path.DirectorySeparatorChar).Contains("obj"))
            .Where(file => File.ReadLines(file).Any(line =>
                !line.TrimStart().StartsWith("//", StringComparison.Ordinal) && names.Any(name => line.Contains(name, StringComparison.Ordinal))))
            .Select(file => Path.GetRelativePath(source, file).Replace('\\', '/'))];
        Assert.Contains("Models/Qwen2.cs", users);
        None(users.Where(file => !Architecture.All.Any(family => file == $"Models/{family.GetType().Name}.cs")));
    }

    [Fact]
    public void Bodies_are_read_too()
    {
        // Neither stands in a signature of its user.
        Assert.Contains(s_uses["MLNetLora.Inference.CausalLanguageModel"], used => used.FullName == "MLNetLora.Artifacts.InferenceModel");
        Assert.Contains(s_uses["MLNetLora.Models.Checkpoint"], used => used.FullName == "MLNetLora.Checkpoints.WeightFiles");
    }

    private static void None(IEnumerable<string> found)
    {
        string[] wrong = [.. found.Distinct().Order(StringComparer.Ordinal)];
        Assert.True(wrong.Length == 0, string.Join(Environment.NewLine, wrong));
    }

    /// <summary>The room of a namespace: itself or the nearest one above it; null for what is not ours.</summary>
    private static string? Room(string name)
    {
        for (; name.StartsWith("MLNetLora", StringComparison.Ordinal); name = name[..name.LastIndexOf('.')])
        {
            if (s_rooms.ContainsKey(name))
            {
                return name;
            }
        }

        return null;
    }

    /// <summary>Which types each type of the library refers to; what is nested, closures and iterators too, counts as its outermost type's.</summary>
    private static ILookup<string, TypeReference> Uses()
    {
        using ModuleDefinition module = ModuleDefinition.ReadModule(typeof(MLNetLoraException).Assembly.Location);
        List<(string User, TypeReference Used)> uses = [];
        foreach (TypeDefinition type in module.GetTypes())
        {
            // Types without a namespace are the compiler's; those in Microsoft.ML and System extend foreign types on purpose.
            string user = Outermost(type).FullName;
            if (user.StartsWith("MLNetLora.", StringComparison.Ordinal))
            {
                uses.AddRange(Of(type).SelectMany(Parts).Select(used => (user, used)));
            }
        }

        return uses.ToLookup(use => use.User, use => use.Used);
    }

    private static IEnumerable<TypeReference?> Of(TypeDefinition type) =>
    [
        type.BaseType,
        .. type.Interfaces.Select(implemented => implemented.InterfaceType),
        .. type.CustomAttributes.Select(attribute => attribute.AttributeType),
        .. type.GenericParameters.SelectMany(parameter => parameter.Constraints).Select(constraint => constraint.ConstraintType),
        .. type.Fields.Select(field => field.FieldType),
        .. type.Methods.SelectMany(Of),
    ];

    private static IEnumerable<TypeReference?> Of(MethodDefinition method)
    {
        IEnumerable<TypeReference?> signature = [method.ReturnType, .. method.Parameters.Select(parameter => parameter.ParameterType)];
        if (!method.HasBody)
        {
            return signature;
        }

        return signature
            .Concat(method.Body.Variables.Select(variable => variable.VariableType))
            .Concat(method.Body.ExceptionHandlers.Select(handler => handler.CatchType))
            .Concat(method.Body.Instructions.SelectMany(Of));
    }

    private static IEnumerable<TypeReference?> Of(Instruction instruction) => instruction.Operand switch
    {
        TypeReference type => [type],
        FieldReference field => [field.DeclaringType, field.FieldType],
        GenericInstanceMethod method =>
            [method.DeclaringType, method.ReturnType, .. method.GenericArguments, .. method.Parameters.Select(parameter => parameter.ParameterType)],
        MethodReference method => [method.DeclaringType, method.ReturnType, .. method.Parameters.Select(parameter => parameter.ParameterType)],
        _ => [],
    };

    /// <summary>The types that a reference is made of: elements of arrays and pointers, arguments of generic types.</summary>
    private static IEnumerable<TypeReference> Parts(TypeReference? type) => type switch
    {
        null or GenericParameter => [],
        GenericInstanceType generic => [.. Parts(generic.ElementType), .. generic.GenericArguments.SelectMany(Parts)],
        FunctionPointerType => [],
        TypeSpecification wrapped => Parts(wrapped.ElementType),
        _ => [type],
    };

    private static TypeReference Outermost(TypeReference type) => type.DeclaringType is null ? type : Outermost(type.DeclaringType);
}
