using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Tests.Checkpoints;

namespace MLNetLora.Tests.Adapters;

/// <summary>A weight whose floats would be more than 2 GB, merged some rows at a time out of a file that is not stored.</summary>
public sealed class LargeMergeTests
{
    private const int Inputs = 1 << 12;
    private const int Outputs = (1 << 17) + 8; // 2^29 numbers and some
    private const long RowBytes = 2 * Inputs;

    [LinuxFact]
    public void A_weight_of_more_than_536_million_numbers_is_merged_to_its_last_row()
    {
        using TemporaryFolder folder = new();
        string path = folder.File("large.safetensors");
        SparseFile.Write(path, [new("before", "F32", [2]), new("w", "BF16", [Outputs, Inputs])]);
        SafetensorsFile file = SafetensorsFile.Open(path);
        TensorEntry entry = file.Tensors["w"];
        Assert.True(entry.Count > 1 << 29);
        int[] rows = [0, 1, (1 << 17) - 1, 1 << 17, Outputs - 1];
        using (FileStream stream = File.OpenWrite(path))
        {
            foreach (int row in rows)
            {
                stream.Position = entry.Offset + (row * RowBytes);
                stream.Write(FloatConversion.FromFloat32([row + 1], TensorType.BFloat16));
            }
        }

        float[] a = [.. Enumerable.Range(0, Inputs).Select(i => i % 7f)];
        float[] b = new float[Outputs];
        Array.ForEach(rows, row => b[row] = row + 0.5f);
        LoraModule module = new(new LinearModule("w", Inputs, Outputs), Rank: 1, Alpha: 2, Scaling: 2);
        using FileStream source = File.OpenRead(path);
        using Rows merged = new(rows, source);
        Merge.WriteMerged(file, entry, new LoraFactors(module, a, b), source, merged);
        Assert.Equal(entry.Length, merged.Position);
        Assert.True(merged.RestIsZero);
        Assert.InRange(merged.MostAhead, 0, 32 << 20);
        foreach (int row in rows)
        {
            float first = BitConverter.UInt32BitsToSingle((uint)BitConverter.ToUInt16(FloatConversion.FromFloat32([row + 1], TensorType.BFloat16)) << 16);
            float[] expected = [.. a.Select((value, i) => (i == 0 ? first : 0) + (value * b[row] * 2))];
            Assert.Equal(FloatConversion.FromFloat32(expected, TensorType.BFloat16), merged.Kept[row]);
        }
    }

    /// <summary>Keeps some rows of what is written, looks whether the others are zero, and forgets them.</summary>
    private sealed class Rows(int[] wanted, Stream source) : Stream
    {
        private long _position;

        public Dictionary<int, byte[]> Kept { get; } = [];

        /// <summary>Bytes that were read and not yet written.</summary>
        public long MostAhead { get; private set; }

        public bool RestIsZero { get; private set; } = true;

        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => _position;

        public override long Position { get => _position; set => throw new NotSupportedException(); }

        public override void Flush()
        {
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            MostAhead = Math.Max(MostAhead, source.Position - _position);
            Assert.Equal(0, buffer.Length % RowBytes);
            for (int at = 0; at < buffer.Length; at += (int)RowBytes)
            {
                ReadOnlySpan<byte> row = buffer.Slice(at, (int)RowBytes);
                int number = (int)(_position / RowBytes);
                if (wanted.Contains(number))
                {
                    Kept[number] = row.ToArray();
                }
                else
                {
                    RestIsZero &= row.IndexOfAnyExcept((byte)0) < 0;
                }

                _position += RowBytes;
            }
        }
    }
}
