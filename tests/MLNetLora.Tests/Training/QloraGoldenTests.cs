using System.Text.Json;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>4-bit bases against bitsandbytes: its own packed checkpoints as it dequantizes them, ours quantized from the same weights, and LoRA's gradients on
/// both.</summary>
[Trait("Category", "Golden")]
public sealed class QloraGoldenTests(Xunit.Abstractions.ITestOutputHelper output)
{
    [Fact]
    public void Weights_and_gradients_equal_bitsandbytes()
    {
        GoldenReport report = new("qlora", output);
        foreach (string folder in Golden.Folders("qlora"))
        {
            string name = Path.GetFileName(folder);
            JsonElement description = GoldenFile.Json(Path.Combine(folder, "case.json"));
            Checkpoint theirs = Checkpoint.Open(Golden.Beside(folder, description.GetProperty("prequantized").GetString()!));
            Assert.True(theirs.IsFourBit);
            Checkpoint plain = Checkpoint.Open(Golden.Beside(folder, description.GetProperty("base").GetString()!));
            FourBitStorage storage = theirs.Tensors.Values.First(tensor => tensor.FourBit is not null).FourBit!;
            Checkpoint ours = FourBitCache.Open(plain, new FourBitCache.Format(storage.Type, storage.Nested is not null).Precision);
            GoldenFile dequantized = new(Path.Combine(folder, "dequantized.safetensors"));
            foreach (string tensor in dequantized.Names)
            {
                float[] expected = dequantized.Floats(tensor);
                report.Compare($"{name} {tensor}", Worst(theirs.Tensors[tensor].ReadFloat32(), expected), 1e-6);
                (byte[] own, byte[] packed) = (Bytes(ours.Tensors[tensor]), Bytes(theirs.Tensors[tensor]));
                report.Compare($"{name} {tensor} packed", own.Zip(packed).Count(pair => pair.First != pair.Second) / (double)packed.Length, 1e-3);

                // Where a code is the neighbour, the weight lay between two levels.
                float[] values = ours.Tensors[tensor].ReadFloat32();
                report.Compare($"{name} {tensor} quantized here",
                    values.Zip(expected).Count(pair => Math.Abs(pair.First - pair.Second) > 1e-6) / (double)values.Length, 1e-3);
            }

            GoldenFile expectedGradients = new(Path.Combine(folder, "expected.safetensors"));
            GoldenFile batch = new(Golden.Beside(folder, description.GetProperty("batch").GetString()!));
            foreach ((string which, Checkpoint checkpoint) in ((string, Checkpoint)[])[("theirs", theirs), ("ours", ours)])
            {
                foreach (bool recompute in (bool[])[false, true])
                {
                    CompareGradients($"{name} {which} {recompute}", checkpoint, Path.Combine(folder, "adapter"), batch, expectedGradients, recompute, report);
                }
            }
        }

        report.Finish();
    }

    private static void CompareGradients(
        string name, Checkpoint checkpoint, string adapterFolder, GoldenFile input, GoldenFile expected, bool recompute, GoldenReport report)
    {
        LoraAdapter adapter = LoraAdapter.LoadPeft(adapterFolder, checkpoint);
        TrainingTarget target = TrainingTarget.Lora(checkpoint, adapter.Options.With(o => o.Dropout = 0));
        using TrainingSession session = new(target, new TrainingOptions { Threads = 1, ActivationCheckpointing = recompute }, ChunkPlan.Whole);
        LoraParameters.Load(session.Parameters, adapter);
        Batch batch = Batch.Of(input.Rows());
        float loss = session.Accumulate(batch, batch.LabelIds.Length);
        float wantLoss = expected.Floats("loss")[0];
        report.Compare($"{name} loss", Math.Abs(loss - wantLoss) / wantLoss, 1e-5);
        report.Compare($"{name} evaluated", Math.Abs((session.Evaluate(batch).Loss / batch.LabelIds.Length) - wantLoss) / wantLoss, 1e-5);
        string[] keys = [.. expected.Names.Where(key => key.StartsWith("grad.", StringComparison.Ordinal))];
        Assert.Equal(session.Parameters.Tensors.Count, keys.Length);
        foreach (string key in keys)
        {
            report.Compare($"{name} {key}",
                GoldenFile.RelativeError(session.Parameters.Slice(session.Parameters.Gradients, key["grad.".Length..]), expected.Floats(key)), 5e-5);
        }
    }

    private static double Worst(float[] actual, float[] expected) => actual.Zip(expected, (a, e) => Math.Abs((double)a - e)).Max();

    private static byte[] Bytes(CheckpointTensor tensor)
    {
        byte[] bytes = new byte[tensor.Entry.Length];
        using FileStream stream = File.OpenRead(tensor.File.Source);
        stream.Position = tensor.Entry.Offset;
        stream.ReadExactly(bytes);
        return bytes;
    }
}
