using System.Security.Cryptography;

namespace MLNetLora.Checkpoints;

/// <summary>
/// The first bytes of a blob on the disk, ETAG.incomplete, and the hash of them. It grows at its end alone, so that huggingface_hub and a later download can
/// go on from whatever is there.
/// </summary>
internal sealed class BlobFile : IDisposable
{
    private readonly Stream _stream;
    private readonly HubFile _file;
    private IncrementalHash? _hash;

    private BlobFile(Stream stream, HubFile file, string path)
    {
        (_stream, _file, Path) = (stream, file, path);
        _hash = file.StartHash();
    }

    /// <summary>Where it is.</summary>
    public string Path { get; }

    /// <summary>How many bytes it has.</summary>
    public long Length { get; private set; }

    /// <summary>Opens the file, and reads what an earlier download has left.</summary>
    /// <param name="path">The file.</param>
    /// <param name="file">What it is to become.</param>
    /// <param name="environment">May stand in between.</param>
    /// <param name="cancellation">Ends the reading.</param>
    public static async Task<BlobFile> OpenAsync(string path, HubFile file, HubEnvironment environment, CancellationToken cancellation)
    {
        FileStream stream = new(path, new FileStreamOptions
        {
            Mode = FileMode.OpenOrCreate,
            Access = FileAccess.ReadWrite,
            Share = FileShare.None,
            BufferSize = 0,
            Options = FileOptions.Asynchronous,
        });
        BlobFile blob = new(environment.Disk(stream), file, path);
        try
        {
            if (stream.Length > file.Size)
            {
                blob.Clear();
            }

            await blob.ReadAsync(cancellation).ConfigureAwait(false);
            return blob;
        }
        catch
        {
            blob.Dispose();
            throw;
        }
    }

    /// <summary>Appends bytes.</summary>
    public async Task AppendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellation)
    {
        await _stream.WriteAsync(bytes, cancellation).ConfigureAwait(false);
        _hash?.AppendData(bytes.Span);
        Length += bytes.Length;
    }

    /// <summary>Forgets everything.</summary>
    public void Clear()
    {
        _stream.SetLength(0);
        _stream.Position = 0;
        _hash?.Dispose();
        _hash = _file.StartHash();
        Length = 0;
    }

    /// <summary>The hash of all of it, to be asked for once; null where the hub tells none to compare it with.</summary>
    public string? Hash() => _hash is null ? null : Convert.ToHexStringLower(_hash.GetHashAndReset());

    /// <summary>Brings everything down to the disk.</summary>
    public void Flush()
    {
        if (_stream is FileStream file)
        {
            file.Flush(flushToDisk: true);
        }
        else
        {
            _stream.Flush();
        }
    }

    public void Dispose()
    {
        _stream.Dispose();
        _hash?.Dispose();
    }

    private async Task ReadAsync(CancellationToken cancellation)
    {
        byte[] block = new byte[1 << 20];
        for (int read; (read = await _stream.ReadAsync(block, cancellation).ConfigureAwait(false)) > 0;)
        {
            _hash?.AppendData(block, 0, read);
            Length += read;
        }
    }
}
