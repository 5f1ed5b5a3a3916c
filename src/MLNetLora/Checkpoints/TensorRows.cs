using System.Buffers;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace MLNetLora.Checkpoints;

/// <summary>Reads some rows of a checkpoint's matrices as float32, without the rest of them. Many threads may read at once.</summary>
internal sealed class TensorRows : IDisposable
{
    private readonly Dictionary<SafetensorsFile, SafeFileHandle> _files = [];

    /// <summary>Opens the files of a checkpoint.</summary>
    /// <param name="files">The files whose tensors will be read.</param>
    /// <exception cref="CheckpointException">A file cannot be opened.</exception>
    public TensorRows(IEnumerable<SafetensorsFile> files)
    {
        try
        {
            foreach (SafetensorsFile file in files)
            {
                _files[file] = File.OpenHandle(file.Source);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Dispose();
            throw Unreadable(e);
        }
    }

    /// <summary>Reads whole rows.</summary>
    /// <param name="tensor">[rows, columns].</param>
    /// <param name="first">First row.</param>
    /// <param name="values">[rows to read, columns].</param>
    /// <exception cref="CheckpointException">The file has become shorter or cannot be read.</exception>
    public void Read(CheckpointTensor tensor, long first, Span<float> values)
    {
        if (tensor.FourBit is { } storage)
        {
            ReadFourBit(tensor, storage, first * tensor.Entry.Shape[1], values);
            return;
        }

        TensorEntry entry = tensor.Entry;
        long rowBytes = entry.Length / entry.Shape[0];
        int count = (int)(rowBytes * (values.Length / entry.Shape[1]));
        byte[] bytes = ArrayPool<byte>.Shared.Rent(count);
        try
        {
            Span<byte> part = bytes.AsSpan(0, count);
            ReadBytes(tensor, first * rowBytes, part);
            FloatConversion.ToFloat32(part, entry.Type, values, entry.Name);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(bytes);
        }
    }

    /// <summary>Reads a stretch of a weight in 4 bits.</summary>
    private void ReadFourBit(CheckpointTensor tensor, FourBitStorage storage, long first, Span<float> values)
    {
        long end = first + values.Length;
        byte[] codes = new byte[((end + 1) / 2) - (first / 2)];
        ReadBytes(tensor, first / 2, codes);
        long firstBlock = first / storage.BlockSize;
        float[] absmax = AbsMax(storage, firstBlock, (int)(((end - 1) / storage.BlockSize) - firstBlock + 1));
        for (long at = first; at < end;)
        {
            long block = at / storage.BlockSize;
            int length = (int)(Math.Min((block + 1) * storage.BlockSize, end) - at);
            ReadOnlySpan<byte> bytes = codes.AsSpan((int)((at / 2) - (first / 2)));
            FourBitCode.Dequantize(storage.Type, bytes, (int)(at % 2), absmax[block - firstBlock], values.Slice((int)(at - first), length));
            at += length;
        }
    }

    private float[] AbsMax(FourBitStorage storage, long first, int count)
    {
        float[] absmax = new float[count];
        if (storage.Nested is not { } nested)
        {
            ReadBytes(storage.AbsMax, first * sizeof(float), MemoryMarshal.AsBytes(absmax.AsSpan()));
            return absmax;
        }

        byte[] codes = new byte[count];
        ReadBytes(storage.AbsMax, first, codes);
        long firstNested = first / nested.BlockSize;
        float[] scales = new float[((first + count - 1) / nested.BlockSize) - firstNested + 1];
        ReadBytes(nested.AbsMax, firstNested * sizeof(float), MemoryMarshal.AsBytes(scales.AsSpan()));
        for (int i = 0; i < count; i++)
        {
            absmax[i] = (nested.Map[codes[i]] * scales[((first + i) / nested.BlockSize) - firstNested]) + nested.Offset;
        }

        return absmax;
    }

    /// <summary>Reads a stretch of a tensor as it lies in its file.</summary>
    /// <exception cref="CheckpointException">The file has become shorter or cannot be read.</exception>
    public void ReadBytes(CheckpointTensor tensor, long offset, Span<byte> bytes)
    {
        try
        {
            for (int read = 0; read < bytes.Length;)
            {
                int got = RandomAccess.Read(_files[tensor.File], bytes[read..], tensor.Entry.Offset + offset + read);
                read += got > 0 ? got : throw new CheckpointException($"{tensor.File.Source} has become shorter while it was read; load it again.");
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Unreadable(e);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (SafeFileHandle file in _files.Values)
        {
            file.Dispose();
        }
    }

    private static CheckpointException Unreadable(Exception e) => new($"The weights of the checkpoint cannot be read: {e.Message}", e);
}
