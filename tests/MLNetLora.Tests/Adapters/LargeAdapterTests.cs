using System.Text;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.Tests.Adapters;

/// <summary>Adapters go through streams piece by piece, so that their size does not matter.</summary>
public sealed class LargeAdapterTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    [Fact]
    public void Written_and_read_through_streams_that_only_go_forward()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"));
        LoraAdapter adapter = LoraAdapter.Create(new LoraOptions { Rank = 3, TargetModules = "all-linear" }, checkpoint, 1);
        using MemoryStream memory = new();
        using (ForwardOnly output = new(memory))
        {
            adapter.Write(output);
        }

        Assert.Equal(memory.Length, adapter.SafetensorsLength);
        Assert.Equal(memory.ToArray(), adapter.ToSafetensors());
        memory.Position = 0;
        using ForwardOnly input = new(memory);
        LoraAdapter read = LoraAdapter.Read(input, memory.Length, adapter.ToPeftConfigJson(), "test", checkpoint);
        Assert.Equal(adapter.ToSafetensors(), read.ToSafetensors());
        Assert.Equal(adapter.Options.Rank, read.Options.Rank);

        using ForwardOnly cut = new(new MemoryStream(memory.ToArray()[..^100]));
        Assert.Contains("ends within the tensor", Assert.Throws<CheckpointException>(
            () => LoraAdapter.Read(cut, memory.Length, adapter.ToPeftConfigJson(), "test", checkpoint)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Nothing_larger_than_a_piece_is_made_on_the_way()
    {
        float[] numbers = new float[40 << 20]; // 160 MB
        SafetensorsWriter.Item[] items =
        [
            SafetensorsWriter.Item.From("a", TensorType.Float32, [numbers.Length], numbers),
            SafetensorsWriter.Item.From("b", TensorType.BFloat16, [numbers.Length], numbers),
        ];
        SafetensorsWriter.Write(Stream.Null, items);
        long before = GC.GetAllocatedBytesForCurrentThread();
        using Counting counting = new();
        SafetensorsWriter.Write(counting, items);
        Assert.Equal(SafetensorsWriter.Length(items), counting.Length);
        Assert.InRange(counting.Largest, 1, 8 << 20);
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 110 << 20); // 80 MB of bf16 in pieces of 2 MB; no copy of the floats
    }

    [Fact]
    public void An_adapter_of_more_than_2_GB_is_written_to_the_last_byte()
    {
        // One array stands for all factors: 2,560 MB are written, 128 MB are held.
        float[] shared = new float[32 << 20];
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"));
        LoraAdapter small = LoraAdapter.Create(new LoraOptions { Rank = 1, TargetModules = ["q_proj"] }, checkpoint, 1);
        LoraFactors[] factors = [.. Enumerable.Range(0, 20).Select(i => Factors(small.Factors[0].Module, i, shared))];
        LoraAdapter adapter = new(small.Options, "", factors);
        using Counting counting = new();
        adapter.Write(counting);
        Assert.True(counting.Length > (long)int.MaxValue + (400 << 20));
        Assert.Equal(adapter.SafetensorsLength, counting.Length);
    }

    [Fact]
    public void Tensors_beyond_2_GB_in_a_file_are_read()
    {
        const long hole = 3L << 30;
        string path = _folder.File("sparse.safetensors");
        string json = $$"""
            { "hole": { "dtype": "U8", "shape": [{{hole}}], "data_offsets": [0, {{hole}}] },
              "a": { "dtype": "F32", "shape": [2], "data_offsets": [{{hole}}, {{hole + 8}}] } }
            """;
        byte[] header = Encoding.UTF8.GetBytes(json.PadRight((json.Length + 7) / 8 * 8));
        using (FileStream stream = File.Create(path))
        {
            stream.Write(BitConverter.GetBytes((long)header.Length));
            stream.Write(header);
            stream.Position += hole; // never written: the file system stores nothing
            stream.Write(BitConverter.GetBytes(1.5f));
            stream.Write(BitConverter.GetBytes(-2.5f));
        }

        SafetensorsFile file = SafetensorsFile.Open(path);
        float[] values = new float[2];
        file.ReadFloat32(file.Tensors["a"], values);
        Assert.Equal([1.5f, -2.5f], values);
        Assert.Equal([1.5f, -2.5f], file.ReadFloat32(file.Tensors["a"]));
    }

    public void Dispose() => _folder.Dispose();

    private static LoraFactors Factors(LoraModule like, int number, float[] shared)
    {
        LinearModule linear = like.Module with { Name = $"model.layers.{number}.self_attn.q_proj", In = 16, Out = 16 };
        return new LoraFactors(like with { Module = linear, Rank = shared.Length / 16 }, shared, shared);
    }

    private sealed class ForwardOnly(Stream inner) : Stream
    {
        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override void Flush() => inner.Flush();

        // as a network or a zip may give it
        public override int Read(byte[] buffer, int offset, int count) => inner.Read(buffer, offset, Math.Min(count, 1000));

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => inner.Write(buffer, offset, count);
    }

    /// <summary>Takes everything and remembers how much it was.</summary>
    private sealed class Counting : Stream
    {
        private long _length;

        public int Largest { get; private set; }

        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => _length;

        public override long Position { get => _length; set => throw new NotSupportedException(); }

        public override void Flush()
        {
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => Count(count);

        public override void Write(ReadOnlySpan<byte> buffer) => Count(buffer.Length);

        private void Count(int bytes)
        {
            _length += bytes;
            Largest = Math.Max(Largest, bytes);
        }
    }
}
