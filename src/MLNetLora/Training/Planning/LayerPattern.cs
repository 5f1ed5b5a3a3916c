using System.Globalization;
using System.Text.RegularExpressions;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Models;

namespace MLNetLora.Training.Planning;

/// <summary>
/// Which parts of a model show what a layer costs: one with few layers and one with more, both with whole periods of the pattern in which kinds of layers and
/// trained tensors alternate, and with a last layer of the model's own kind.
/// </summary>
/// <param name="Counts">Layers of the two parts; the model's own number alone where there is no pattern, or no part that is much smaller.</param>
internal sealed partial record LayerPattern(IReadOnlyList<int> Counts)
{
    /// <summary>Numbers of the layers: a model of no more is as quickly measured as parts of it.</summary>
    public const long Small = 100_000_000;

    private const int MostPeriods = 9; // between the two parts
    private const double Worth = 0.75; // of the layers: from here on the whole model costs little more

    /// <summary>The parts of a model.</summary>
    /// <param name="config">The model.</param>
    /// <param name="trained">What is trained of it.</param>
    /// <param name="share">The larger part has one layer of so many: 2 leaves little to guess, 3 takes less time.</param>
    /// <param name="cut">What would be trained of a part with some layers.</param>
    /// <param name="small">A model with no more numbers in its layers is measured whole.</param>
    public static LayerPattern Of(QwenConfig config, IReadOnlyList<TrainableTensor> trained, int share, Func<int, IReadOnlyList<TrainableTensor>> cut,
        long small = Small)
    {
        LayerPattern whole = new([config.NumHiddenLayers]);
        string[] layers = Kinds(config, trained);
        int period = Period(layers);

        // The first layer and the last one are different from others: nothing goes back through the first, and the last computes rows with labels alone. So
        // that each kind stands between them, too, it takes another period, or one layer.
        int few = period == 1 ? 3 : (layers.Length % period) + (2 * period);
        int periods = Math.Clamp((int)Math.Round((double)((layers.Length / share) - few) / period), 1, MostPeriods);
        int more = few + (periods * period);
        long numbers = Architecture.Find(config.ModelType, QwenConfig.FileName).Linears(config).Sum(module => (long)module.In * module.Out);
        if (numbers <= small || more > Worth * layers.Length)
        {
            return whole;
        }

        try
        {
            bool fits = new[] { few, more }.All(count =>
                Names(cut(count)).SetEquals(Names(trained.Where(tensor => Layer(tensor.Name) is not { } at || at < count))));
            return fits ? new LayerPattern([few, more]) : whole;
        }
        catch (AdapterException)
        {
            return whole; // an option names a layer that the part has not
        }
    }

    private static HashSet<string> Names(IEnumerable<TrainableTensor> tensors) => [.. tensors.Select(tensor => tensor.Name)];

    /// <summary>What each layer is and what is trained of it; equal where the layers are alike.</summary>
    private static string[] Kinds(QwenConfig config, IReadOnlyList<TrainableTensor> trained)
    {
        ILookup<int, string> tensors = trained.Where(tensor => Layer(tensor.Name) is not null).ToLookup(
            tensor => Layer(tensor.Name)!.Value, tensor => $"{Number().Replace(tensor.Name, ".N.", 1)} {string.Join('x', tensor.Shape)}");
        return [.. Enumerable.Range(0, config.NumHiddenLayers).Select(layer => string.Create(CultureInfo.InvariantCulture,
            $"{config.SlidingWindows[layer]} {config.DeltaNet?.Layers[layer]} {config.Experts?.IsSparse[layer]} {string.Join(' ', tensors[layer])}"))];
    }

    /// <summary>After how many layers the same kinds come again.</summary>
    private static int Period(string[] layers) => Enumerable.Range(1, layers.Length).First(
        period => Enumerable.Range(0, layers.Length - period).All(layer => layers[layer] == layers[layer + period]));

    /// <summary>The layer that a tensor belongs to; null for the embedding and others of the whole model.</summary>
    private static int? Layer(string name) => Number().Match(name) is { Success: true } match
        ? int.Parse(match.Groups[1].ValueSpan, CultureInfo.InvariantCulture)
        : null;

    [GeneratedRegex(@"\.(\d{1,9})\.")]
    private static partial Regex Number();
}
