using System.Buffers;
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
        TensorEntry entry = tensor.Entry;
        long rowBytes = entry.Length / entry.Shape[0];
        int count = (int)(rowBytes * (values.Length / entry.Shape[1]));
        byte[] bytes = ArrayPool<byte>.Shared.Rent(count);
        try
        {
            Span<byte> part = bytes.AsSpan(0, count);
            for (int read = 0; read < count;)
            {
                int got = RandomAccess.Read(_files[tensor.File], part[read..], entry.Offset + (first * rowBytes) + read);
                read += got > 0 ? got : throw new CheckpointException($"{tensor.File.Source} has become shorter while it was read; load it again.");
            }

            FloatConversion.ToFloat32(part, entry.Type, values, entry.Name);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Unreadable(e);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(bytes);
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
