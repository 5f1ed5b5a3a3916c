// Stand-ins for types that other rooms bring, with the members that this room uses; this file goes when they are there.
#pragma warning disable CS1591, CA1710
using System.Collections;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Training;

namespace MLNetLora.Checkpoints
{
    public sealed class Checkpoint
    {
        private Checkpoint(string folder) => Folder = folder;

        public string Folder { get; }

        public static Checkpoint Open(string folder) => Directory.Exists(folder) ? new Checkpoint(Path.GetFullPath(folder)) : throw new CheckpointException($"There is no folder '{folder}'.");
    }
}

namespace MLNetLora.Adapters
{
    [CollectionBuilder(typeof(TargetModules), nameof(Create))]
    public sealed class TargetModules : IEnumerable<string>
    {
        private readonly string[] _names;

        private TargetModules(string[] names, string? pattern) => (_names, Pattern) = (names, pattern);

        public string? Pattern { get; }

        public static TargetModules Create(ReadOnlySpan<string> names) => new(names.ToArray(), null);

        public static implicit operator TargetModules(string pattern) => new([], pattern);

        public static TargetModules FromString(string pattern) => pattern;

        public IEnumerator<string> GetEnumerator() => ((IEnumerable<string>)_names).GetEnumerator();

        IEnumerator IEnumerable.GetEnumerator() => _names.GetEnumerator();
    }

    public sealed record LoraOptions
    {
        public int Rank { get; init; } = 64;

        public double Alpha { get; init; } = 16;

        public double Dropout { get; init; } = 0.05;

        public bool UseRsLora { get; init; }

        public TargetModules TargetModules { get; init; } = ["q_proj", "v_proj"];

        public IReadOnlyList<int>? LayersToTransform { get; init; }

        public IReadOnlyDictionary<string, int> RankPattern { get; init; } = new Dictionary<string, int>();

        public IReadOnlyDictionary<string, double> AlphaPattern { get; init; } = new Dictionary<string, double>();

        public void Validate()
        {
            if (Rank < 1)
            {
                throw new OptionException($"Rank is {Rank}; it must be at least 1.");
            }

            if (Dropout is < 0 or >= 1)
            {
                throw new OptionException($"Dropout is {Dropout}; it must be at least 0 and below 1.");
            }

            if (TargetModules.Pattern is null && !TargetModules.Any())
            {
                throw new OptionException("TargetModules is empty; name at least one layer.");
            }
        }
    }

    public sealed class LoraAdapter
    {
        private readonly byte[] _safetensors;
        private readonly string _configJson;

        private LoraAdapter(byte[] safetensors, string configJson) => (_safetensors, _configJson) = (safetensors, configJson);

        public static LoraAdapter FromPeft(ReadOnlyMemory<byte> safetensors, string configJson, string source, Checkpoint checkpoint)
        {
            try
            {
                using JsonDocument config = JsonDocument.Parse(configJson);
            }
            catch (JsonException exception)
            {
                throw new AdapterException($"{source} and {checkpoint.Folder}: adapter_config.json is not JSON: {exception.Message}", exception);
            }

            return new LoraAdapter(safetensors.ToArray(), configJson);
        }

        public byte[] ToSafetensors() => _safetensors;

        public string ToPeftConfigJson() => _configJson;

        public void SaveAsPeft(string folder)
        {
            Directory.CreateDirectory(folder);
            File.WriteAllText(Path.Combine(folder, "adapter_config.json"), _configJson, new UTF8Encoding(false));
            File.WriteAllBytes(Path.Combine(folder, "adapter_model.safetensors"), _safetensors);
        }
    }
}

namespace MLNetLora.Text
{
    public enum LabelScope
    {
        Answer,
        Everything,
    }

    public sealed record InstructionRow(string Instruction, string? Output = null, string? Input = null, string? System = null, IReadOnlyList<InstructionTurn>? History = null);

    public sealed record InstructionTurn(string Instruction, string Output);

    internal static class InstructionFile
    {
        public static IEnumerable<InstructionRow> Read(string path)
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(path));
            foreach (JsonElement row in document.RootElement.EnumerateArray())
            {
                yield return new InstructionRow(Field(row, "instruction")!, Field(row, "output"), Field(row, "input"), Field(row, "system"));
            }
        }

        private static string? Field(JsonElement row, string name) => row.TryGetProperty(name, out JsonElement value) ? value.GetString() : null;
    }
}

namespace MLNetLora.TextGeneration
{
    internal sealed class QwenLoraBackend : ITextGenerationBackend
    {
        public string ResolveBaseFolder(string modelPath) => Checkpoint.Open(modelPath).Folder;

        public (LoraAdapter Adapter, TrainingSummary Summary) Train(TrainingRequest request, Action<TrainingProgress> progress, CancellationToken cancellationToken) =>
            throw new NotSupportedException();

        public ITextGenerationEngine Open(string baseFolder, LoraAdapter adapter, PromptOptions prompt, GenerationOptions generation) => throw new NotSupportedException();

        public void MergeAndSave(string baseFolder, LoraAdapter adapter, string folder) => throw new NotSupportedException();
    }
}
