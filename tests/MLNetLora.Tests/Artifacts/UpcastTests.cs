using System.Globalization;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Onnx.Proto;
using MLNetLora.Runtime;
using MLNetLora.Training;

namespace MLNetLora.Tests.Artifacts;

/// <summary>
/// A 16-bit weight is upcast for each product and its float32 copy is gone after it. ONNX Runtime visits what feeds a node from the last in the file
/// to the first, so that needs the upcasts at the head of the file: behind the maker of the activation they would all run before it, and all copies
/// would wait together.
/// </summary>
[Collection(Alone.Name)]
public sealed class UpcastTests(Xunit.Abstractions.ITestOutputHelper output)
{
    private static readonly LoraOptions s_lora = new() { Rank = 2, Dropout = 0 };

    [Theory]
    [InlineData(TensorType.BFloat16, false)]
    [InlineData(TensorType.BFloat16, true)]
    [InlineData(TensorType.Float16, true)]
    public void Upcasts_of_weights_stand_before_all_other_nodes(object tensorType, bool recomputed)
    {
        TensorType type = (TensorType)tensorType;
        using TemporaryFolder folder = new();
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(folder.Path, "qwen2", type: type);
        TrainingTarget target = TrainingTarget.Lora(checkpoint, s_lora);
        ChunkPlan plan = new(2, 1, false, Vocabulary: 2);
        foreach (ModelArtifact artifact in (ModelArtifact[])[TrainingModel.Training(target, recomputed, plan),
            TrainingModel.Evaluation(target, plan, logits: true), InferenceModel.Build(checkpoint, new AdapterParts(target.Loras, [], null))])
        {
            GraphProto graph = ModelProto.Parser.ParseFrom(artifact.Bytes).Graph;
            HashSet<string> initializers = [.. graph.Initializer.Select(tensor => tensor.Name)];
            bool[] upcasts = [.. graph.Node.Select(node => node.OpType == "Cast" && initializers.Contains(node.Input[0]))];
            Assert.True(upcasts.Count(upcast => upcast) > 2 * checkpoint.Config.NumHiddenLayers, artifact.Name);
            Assert.Equal(upcasts.OrderByDescending(upcast => upcast), upcasts);
        }
    }

    // Of 8 layers with 17 MB each in float32 no more than one may be there at a time, beside what the same weights in float32 take. Held together
    // they are 134 MB.
    [LinuxTheory]
    [InlineData(false)]
    [InlineData(true)]
    public void One_layer_is_held_in_float32_not_all(bool recomputed)
    {
        using TemporaryFolder folder = new();
        const int layers = 8;
        Checkpoint full = Write(folder.File("float32"), TensorType.Float32, layers);
        Checkpoint half = Write(folder.File("bfloat16"), TensorType.BFloat16, layers);
        long layer = full.Architecture.Linears(full.Config).Sum(module => (long)module.In * module.Out) * sizeof(float) / layers;
        long[] peaks = [.. ((Checkpoint[])[full, half]).Select(checkpoint => Peak(checkpoint, recomputed))];
        output.WriteLine(
            string.Create(CultureInfo.InvariantCulture, $"float32 {peaks[0] / 1e6:F1} MB, bfloat16 {peaks[1] / 1e6:F1} MB, a layer {layer / 1e6:F1} MB"));
        Assert.InRange(peaks[1], 0, peaks[0] + layer + (layer / 2)); // half a layer for what other parts of the process do meanwhile
    }

    // Private memory that a step takes, the session's included.
    private static long Peak(Checkpoint checkpoint, bool recomputed)
    {
        TrainingOptions options = new() { Threads = 1, ActivationCheckpointing = recomputed };
        using TrainingSession session = new(TrainingTarget.Lora(checkpoint, s_lora), options, ChunkPlan.Whole);
        LoraParameters.Load(session.Parameters, LoraAdapter.Create(s_lora, checkpoint, 1));
        Batch batch = Batch.Of([TinyModel.Row(new Random(1), 16)], 1);
        PeakMemory.Trim(); // what tests before this one have left would be taken again
        long before = PrivateBytes();
        long peak = 0;
        using (CancellationTokenSource done = new())
        {
            Thread watch = new(() =>
            {
                while (!done.IsCancellationRequested)
                {
                    peak = Math.Max(peak, PrivateBytes());
                    Thread.Sleep(1);
                }
            });
            watch.Start();
            for (int i = 0; i < 3; i++)
            {
                session.Accumulate(batch, batch.LabelIds.Length);
            }

            done.Cancel();
            watch.Join();
        }

        return peak - before;
    }

    private static long PrivateBytes()
    {
        string line = File.ReadLines("/proc/self/status").First(text => text.StartsWith("RssAnon:", StringComparison.Ordinal));
        return long.Parse(line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024;
    }

    private static Checkpoint Write(string folder, TensorType type, int layers)
    {
        TinyModel.WriteConfig(folder, "qwen2", tied: true, layers: layers);
        string file = Path.Combine(folder, "config.json");
        File.WriteAllText(file, File.ReadAllText(file)
            .Replace("\"hidden_size\":16", "\"hidden_size\":512", StringComparison.Ordinal)
            .Replace("\"head_dim\":8", "\"head_dim\":128", StringComparison.Ordinal)
            .Replace("\"intermediate_size\":24", "\"intermediate_size\":2200", StringComparison.Ordinal));
        QwenConfig config = QwenConfig.Read(folder);
        Random random = new(1);
        SafetensorsWriter.Write(Path.Combine(folder, "model.safetensors"), [.. Architecture.Find("qwen2", "").Tensors(config).Select(spec =>
        {
            float[] values = new float[spec.Shape.Aggregate(1L, (product, size) => product * size)];
            for (int i = 0; i < values.Length; i++)
            {
                values[i] = spec.Decays ? (random.NextSingle() - 0.5f) * 0.1f : 1;
            }

            return SafetensorsWriter.Item.From(spec.Name, type, spec.Shape, values);
        })]);
        return Checkpoint.Open(folder);
    }
}
