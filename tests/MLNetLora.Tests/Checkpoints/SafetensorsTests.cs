using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Runtime;

namespace MLNetLora.Tests.Checkpoints;

public sealed class SafetensorsTests
{
    [Theory]
    [InlineData(TensorType.Float32)]
    [InlineData(TensorType.Float16)]
    [InlineData(TensorType.BFloat16)]
    public void What_is_written_is_read(object tensorType)
    {
        TensorType type = (TensorType)tensorType;
        using TemporaryFolder folder = new();
        float[] values = [0f, -0f, 1f, -2.5f, 0.1f, 65504f, 1e-7f, 3.14159274f];
        SafetensorsWriter.Write(folder.File("t.safetensors"),
            [SafetensorsWriter.Item.From("a", type, [2, 4], values), SafetensorsWriter.Item.From("empty", type, [0], Array.Empty<float>())]);
        SafetensorsFile file = SafetensorsFile.Open(folder.File("t.safetensors"));
        Assert.Equal("pt", file.Metadata["format"]);
        Assert.Equal(0, (8 + file.Header.Length) % 8);
        Assert.Empty(file.ReadFloat32(file.Tensors["empty"]));
        float[] read = file.ReadFloat32(file.Tensors["a"]);
        Assert.Equal(
            values.Select(value => type switch { TensorType.Float16 => (float)(Half)value, TensorType.BFloat16 => RoundToBFloat16(value), _ => value }), read);
    }

    [Fact]
    public void BFloat16_rounds_to_the_nearest_and_ties_to_even()
    {
        float[] values = [BitConverter.UInt32BitsToSingle(0x3F808000), BitConverter.UInt32BitsToSingle(0x3F818000), BitConverter.UInt32BitsToSingle(0x3F808001),
            float.NaN, float.PositiveInfinity];
        byte[] bytes = FloatConversion.FromFloat32(values, TensorType.BFloat16);
        Assert.Equal([0x3F80, 0x3F82, 0x3F81, 0x7FC0, 0x7F80], Enumerable.Range(0, 5).Select(i => (int)BitConverter.ToUInt16(bytes, i * 2)));
    }

    [Fact]
    public void A_write_that_fails_leaves_the_old_file_and_nothing_else()
    {
        using TemporaryFolder folder = new();
        File.WriteAllText(folder.File("t.safetensors"), "old");
        Assert.Throws<InvalidOperationException>(
            () => SafetensorsWriter.Write(folder.File("t.safetensors"), [new("a", TensorType.Float32, [1], _ => throw new InvalidOperationException())]));
        Assert.Equal("old", File.ReadAllText(folder.File("t.safetensors")));
        Assert.Single(Directory.GetFiles(folder.Path));
    }

    [Fact]
    public async Task Reading_ahead_reads_every_tensor_and_fails_on_no_file()
    {
        using TemporaryFolder folder = new();
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(folder.File("base"));
        Assert.Equal(checkpoint.Tensors.Values.Sum(tensor => tensor.Entry.Length), await ReadAhead.Start(checkpoint, default));
        Assert.Equal(0, await ReadAhead.Start(checkpoint, new CancellationToken(canceled: true)));
        File.Delete(folder.File("base/model.safetensors"));
        Assert.Equal(0, await ReadAhead.Start(checkpoint, default));
    }

    private static float RoundToBFloat16(float value)
    {
        // The nearest of the two neighbours, found by distance in double.
        float low = BitConverter.UInt32BitsToSingle(BitConverter.SingleToUInt32Bits(value) & 0xFFFF0000);
        float high = BitConverter.UInt32BitsToSingle((BitConverter.SingleToUInt32Bits(value) & 0xFFFF0000) + 0x10000);
        return Math.Abs((double)value - low) <= Math.Abs((double)high - value) ? low : high;
    }
}
