using System.Collections.ObjectModel;
using System.IO.Compression;
using System.IO.Hashing;

namespace MLNetLora.TextGeneration;

/// <summary>The files of one folder in a zip that nobody vouches for: each is read once, from front to back, and never beyond the size that it
/// declares.</summary>
/// <param name="archive">The zip.</param>
/// <param name="folder">The folder; empty for the top.</param>
internal sealed class ZipParts(ZipArchive archive, string folder)
{
    /// <summary>Far more than any chain of transformers writes.</summary>
    private const int MostEntries = 10_000;

    /// <summary>The bytes of a small file.</summary>
    /// <exception cref="AdapterException">It is missing, damaged or larger than it may be.</exception>
    public byte[] Bytes(string name, long mostBytes) => Read(name, mostBytes, (stream, length) =>
    {
        byte[] content = new byte[length];
        stream.ReadExactly(content);
        return content;
    });

    /// <summary>Reads a file as it is unpacked.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="mostBytes">The size that it may have; what declares more is refused before anything is unpacked.</param>
    /// <param name="read">Gets the bytes and their number.</param>
    /// <exception cref="AdapterException">It is missing, damaged or larger than it may be.</exception>
    public T Read<T>(string name, long mostBytes, Func<Stream, long, T> read)
    {
        string path = Path.Combine(folder, name);
        ZipArchiveEntry entry = Find(path);
        if (entry.Length > mostBytes)
        {
            throw new AdapterException($"The model zip's entry {path} has {entry.Length} bytes, more than the {mostBytes} that it may have; it is refused.");
        }

        try
        {
            using ChecksumStream stream = new(entry.Open());
            T result = read(stream, entry.Length);
            if (stream.ReadByte() >= 0)
            {
                throw new InvalidDataException("it is longer than it declares.");
            }

            return stream.Crc32 == entry.Crc32 ? result : throw new InvalidDataException("its checksum is another.");
        }
        catch (Exception exception) when (exception is InvalidDataException or EndOfStreamException)
        {
            throw new AdapterException($"The model zip's entry {path} cannot be unpacked: {exception.Message} The zip is damaged, save the model again.",
                exception);
        }
    }

    /// <summary>What is in a zip, as its directory says, which is read here for the first time.</summary>
    /// <exception cref="AdapterException">The directory is damaged.</exception>
    public static ReadOnlyCollection<ZipArchiveEntry> Entries(ZipArchive archive)
    {
        try
        {
            return archive.Entries;
        }
        catch (InvalidDataException exception)
        {
            throw new AdapterException($"The model zip's directory cannot be read: {exception.Message} The zip is damaged, save the model again.", exception);
        }
    }

    private ZipArchiveEntry Find(string path)
    {
        ReadOnlyCollection<ZipArchiveEntry> entries = Entries(archive);
        if (entries.Count > MostEntries)
        {
            throw new AdapterException($"The model zip has {entries.Count} entries, more than the {MostEntries} that it may have; it is refused.");
        }

        // ML.NET writes the separator of the system that saves, and accepts both.
        ZipArchiveEntry[] found = [.. entries.Where(entry => entry.FullName.Replace('\\', '/') == path.Replace('\\', '/'))];
        return found.Length switch
        {
            1 => found[0],
            0 => throw new AdapterException($"The model zip has no entry {path}; it is damaged, save the model again."),
            _ => throw new AdapterException($"The model zip has {found.Length} entries {path}, and nothing says which counts; it is refused."),
        };
    }

    /// <summary>What is read, and its checksum, which .NET's own reader of zips does not look at.</summary>
    private sealed class ChecksumStream(Stream content) : Stream
    {
        private readonly Crc32 _checksum = new();

        public uint Crc32 => _checksum.GetCurrentHashAsUInt32();

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override int Read(Span<byte> buffer)
        {
            int read = content.Read(buffer);
            _checksum.Append(buffer[..read]);
            return read;
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
            if (disposing)
            {
                content.Dispose();
            }

            base.Dispose(disposing);
        }
    }
}
