using System.Collections;
using System.Globalization;
using System.Reflection;
using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Runtime;
using MLNetLora.Training;

namespace MLNetLora.TextGeneration;

/// <summary>The options of a run as names and texts, for logs and reports.</summary>
internal static class OptionList
{
    /// <summary>Every option that is data: not views, callbacks and tokens.</summary>
    public static IReadOnlyList<TrainingOption> Of(QwenLoraTrainer.Options options) =>
    [
        .. Of(options, new QwenLoraTrainer.Options { Device = Device.Cpu }, ""), // what null stands for
        .. Of(options.Generation, new GenerationOptions(), $"{nameof(options.Generation)}."),
    ];

    private static IEnumerable<TrainingOption> Of(object options, object fresh, string prefix) =>
        from property in options.GetType().GetProperties(BindingFlags.Instance | BindingFlags.Public)
        where property.CanWrite && IsData(property.PropertyType)
        let value = Text(property.GetValue(options))
        orderby property.DeclaringType == options.GetType() ? 0 : 1
        select new TrainingOption(prefix + property.Name, value, value == Text(property.GetValue(fresh)));

    private static bool IsData(Type type) =>
        !type.IsAssignableTo(typeof(Delegate))
        && type != typeof(CancellationToken)
        && type != typeof(IDataView)
        && type != typeof(GenerationOptions)
        && type != typeof(IReadOnlyList<TrainingCallback>);

    private static string Text(object? value) => value switch
    {
        null => "null",
        string text => text,
        bool flag => flag ? "true" : "false",
        TargetModules modules => modules.ToString(),
        IReadOnlyDictionary<string, int> pairs => string.Join(", ", pairs.Select(pair => $"{pair.Key}: {Text(pair.Value)}")),
        IReadOnlyDictionary<string, double> pairs => string.Join(", ", pairs.Select(pair => $"{pair.Key}: {Text(pair.Value)}")),
        IReadOnlyDictionary<int, float> pairs => string.Join(", ", pairs.Select(pair => $"{Text(pair.Key)}: {Text(pair.Value)}")),
        IFormattable number => number.ToString(null, CultureInfo.InvariantCulture),
        IEnumerable list => string.Join(", ", list.Cast<object?>().Select(Text)),
        _ => value.ToString() ?? "",
    };
}
