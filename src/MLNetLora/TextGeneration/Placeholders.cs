// Stand-ins for types that other rooms bring; this file goes when they are there.
#pragma warning disable CS1591
using System.Text;
using System.Text.Json;
using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Adapters
{
    public sealed class LoraOptions
    {
        public int Rank { get; set; } = 64;

        public float Alpha { get; set; } = 16;

        public float Dropout { get; set; } = 0.05f;

        public IReadOnlyList<string> TargetModules { get; set; } = ["q_proj", "v_proj"];

        public bool UseRankStabilizedScaling { get; set; }

        public IReadOnlyList<int>? LayersToTransform { get; set; }

        public IReadOnlyDictionary<string, int> RankPattern { get; set; } = new Dictionary<string, int>();

        public IReadOnlyDictionary<string, float> AlphaPattern { get; set; } = new Dictionary<string, float>();
    }

    public sealed class LoraAdapter
    {
        private readonly byte[] _safetensors;
        private readonly string _configJson;

        private LoraAdapter(byte[] safetensors, string configJson) => (_safetensors, _configJson) = (safetensors, configJson);

        public static LoraAdapter FromPeft(ReadOnlyMemory<byte> safetensors, string configJson, string source)
        {
            try
            {
                using JsonDocument config = JsonDocument.Parse(configJson);
            }
            catch (JsonException exception)
            {
                throw new AdapterException($"{source}: adapter_config.json is not JSON: {exception.Message}", exception);
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

    public sealed record InstructionRow(string Instruction, string? Input, string Output, string? System = null, IReadOnlyList<(string User, string Assistant)>? History = null);

    internal static class InstructionFile
    {
        public static IEnumerable<InstructionRow> Read(string path)
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(path));
            foreach (JsonElement row in document.RootElement.EnumerateArray())
            {
                yield return new InstructionRow(row.GetProperty("instruction").GetString()!, row.TryGetProperty("input", out JsonElement input) ? input.GetString() : null,
                    row.GetProperty("output").GetString()!);
            }
        }
    }
}

namespace MLNetLora.TextGeneration
{
    internal sealed class QwenLoraBackend : ITextGenerationBackend
    {
        public string ResolveBaseFolder(string modelPath) => Directory.Exists(modelPath) ? Path.GetFullPath(modelPath)
            : throw new CheckpointException($"There is no checkpoint folder {modelPath}.");

        public (LoraAdapter Adapter, TrainingSummary Summary) Train(TrainingRequest request, Action<TrainingProgress> progress, CancellationToken cancellationToken) =>
            throw new NotSupportedException();

        public ITextGenerationEngine Open(string baseFolder, LoraAdapter adapter, PromptOptions prompt, GenerationOptions generation) => throw new NotSupportedException();

        public void MergeAndSave(string baseFolder, LoraAdapter adapter, string folder) => throw new NotSupportedException();
    }
}
