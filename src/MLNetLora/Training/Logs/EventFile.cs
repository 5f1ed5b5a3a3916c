using System.Buffers.Binary;
using System.Globalization;
using System.Numerics;
using Google.Protobuf;

namespace MLNetLora.Training;

/// <summary>
/// An event file of TensorBoard: records of TensorFlow (tensorflow/core/lib/io/record_writer.h) whose data are protocol buffers
/// (tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto). Each event is one write, so that a reader sees whole ones.
/// </summary>
internal sealed class EventFile
{
    private const string Version = "brain.Event:2";
    private const string Prefix = "events.out.tfevents.";
    private const long LastTime = 9_999_999_998; // of ten digits, with one to follow

    // event.proto
    private const int WallTime = 1;
    private const int Step = 2;
    private const int FileVersion = 3;
    private const int Summary = 5;
    private const int SessionLog = 7;
    private const int SessionStart = 1;

    // summary.proto, tensor.proto, types.proto
    private const int SummaryValue = 1;
    private const int ValueTag = 1;
    private const int SimpleValue = 2;
    private const int ValueTensor = 8;
    private const int ValueMetadata = 9;
    private const int MetadataPlugin = 1;
    private const int PluginName = 1;
    private const int TensorType = 1;
    private const int TensorShape = 2;
    private const int TensorStrings = 8;
    private const int ShapeDimension = 2;
    private const int DimensionSize = 1;
    private const int StringType = 7;

    private static int s_count;

    private readonly LogFile _file;

    private EventFile(LogFile file) => _file = file;

    /// <summary>Begins a new file in a folder, which is made if it is not there.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="warn">Hears where the file cannot be written on the way.</param>
    /// <exception cref="IOException">No file can be made there.</exception>
    public static EventFile Create(string folder, Action<string> warn)
    {
        Directory.CreateDirectory(folder);
        int number = Interlocked.Increment(ref s_count) - 1;
        string host = string.Concat(Environment.MachineName.Select(letter => char.IsAsciiLetterOrDigit(letter) || letter is '-' or '_' ? letter : '-'));
        string name = string.Create(CultureInfo.InvariantCulture,
            $"{Prefix}{Math.Max(DateTimeOffset.UtcNow.ToUnixTimeSeconds(), Newest(folder) + 1):D10}.{host}.{Environment.ProcessId}.{number}");
        string path = Path.Combine(folder, name);
        File.Create(path).Dispose(); // a place that cannot be written to is an error now, and later a warning
        EventFile file = new(new LogFile(path, warn));
        file.Write(0, output =>
        {
            output.WriteTag(FileVersion, WireFormat.WireType.LengthDelimited);
            output.WriteString(Version);
        });
        return file;
    }

    /// <summary>Tells TensorBoard that steps of earlier files of the folder are made again.</summary>
    /// <param name="step">The first of them.</param>
    public void ForgetFrom(int step) => Write(step, output => Message(output, SessionLog, log =>
    {
        log.WriteTag(1, WireFormat.WireType.Varint);
        log.WriteEnum(SessionStart);
    }));

    /// <summary>Writes figures of a step; what is not finite is left out.</summary>
    public void Scalars(int step, IEnumerable<(string Tag, double Value)> values) => Write(step, output => Message(output, Summary, summary =>
    {
        foreach ((string tag, double value) in values.Where(value => double.IsFinite(value.Value)))
        {
            Message(summary, SummaryValue, entry =>
            {
                entry.WriteTag(ValueTag, WireFormat.WireType.LengthDelimited);
                entry.WriteString(tag);
                entry.WriteTag(SimpleValue, WireFormat.WireType.Fixed32);
                entry.WriteFloat((float)value);
            });
        }
    }));

    /// <summary>Writes a text, which TensorBoard reads as Markdown, as SummaryWriter.add_text does.</summary>
    public void Text(int step, string tag, string text) => Write(step, output => Message(output, Summary, summary => Message(summary, SummaryValue, entry =>
    {
        entry.WriteTag(ValueTag, WireFormat.WireType.LengthDelimited);
        entry.WriteString($"{tag}/text_summary");
        Message(entry, ValueTensor, tensor =>
        {
            tensor.WriteTag(TensorType, WireFormat.WireType.Varint);
            tensor.WriteEnum(StringType);
            Message(tensor, TensorShape, shape => Message(shape, ShapeDimension, dimension =>
            {
                dimension.WriteTag(DimensionSize, WireFormat.WireType.Varint);
                dimension.WriteInt64(1);
            }));
            tensor.WriteTag(TensorStrings, WireFormat.WireType.LengthDelimited);
            tensor.WriteBytes(ByteString.CopyFromUtf8(text));
        });
        Message(entry, ValueMetadata, metadata => Message(metadata, MetadataPlugin, plugin =>
        {
            plugin.WriteTag(PluginName, WireFormat.WireType.LengthDelimited);
            plugin.WriteString("text");
        }));
    })));

    /// <summary>A record: its length, the checksum of the length, the data, the checksum of the data.</summary>
    internal static byte[] Record(ReadOnlySpan<byte> data)
    {
        byte[] record = new byte[sizeof(ulong) + sizeof(uint) + data.Length + sizeof(uint)];
        BinaryPrimitives.WriteUInt64LittleEndian(record, (ulong)data.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(record.AsSpan(sizeof(ulong)), MaskedChecksum(record.AsSpan(0, sizeof(ulong))));
        data.CopyTo(record.AsSpan(sizeof(ulong) + sizeof(uint)));
        BinaryPrimitives.WriteUInt32LittleEndian(record.AsSpan(record.Length - sizeof(uint)), MaskedChecksum(data));
        return record;
    }

    /// <summary>CRC-32C (RFC 3720), turned and shifted as TensorFlow does it (tensorflow/core/lib/hash/crc32c.h), so that checksums of data that hold
    /// checksums stay good ones.</summary>
    internal static uint MaskedChecksum(ReadOnlySpan<byte> data) => BitOperations.RotateRight(Checksum(data), 15) + 0xa282ead8;

    /// <summary>CRC-32C.</summary>
    internal static uint Checksum(ReadOnlySpan<byte> data)
    {
        uint crc = uint.MaxValue;
        foreach (byte value in data)
        {
            crc = BitOperations.Crc32C(crc, value);
        }

        return ~crc;
    }

    /// <summary>The latest time in the names of a folder's event files; 0 where there is none. TensorBoard reads files by their names and goes back to none: a
    /// new one has to come last, also where the clock was put back.</summary>
    private static long Newest(string folder) => Directory.EnumerateFiles(folder, Prefix + "*")
        .Select(path => Path.GetFileName(path)[Prefix.Length..].Split('.')[0])
        .Select(time => long.TryParse(time, NumberStyles.None, CultureInfo.InvariantCulture, out long seconds) && seconds <= LastTime ? seconds : 0)
        .DefaultIfEmpty().Max();

    private static void Message(CodedOutputStream output, int field, Action<CodedOutputStream> write)
    {
        using MemoryStream bytes = new();
        using (CodedOutputStream inner = new(bytes, leaveOpen: true))
        {
            write(inner);
        }

        output.WriteTag(field, WireFormat.WireType.LengthDelimited);
        output.WriteBytes(ByteString.CopyFrom(bytes.GetBuffer(), 0, (int)bytes.Length));
    }

    private void Write(int step, Action<CodedOutputStream> what)
    {
        using MemoryStream bytes = new();
        using (CodedOutputStream output = new(bytes, leaveOpen: true))
        {
            output.WriteTag(WallTime, WireFormat.WireType.Fixed64);
            output.WriteDouble((DateTimeOffset.UtcNow - DateTimeOffset.UnixEpoch).TotalSeconds);
            output.WriteTag(Step, WireFormat.WireType.Varint);
            output.WriteInt64(step);
            what(output);
        }

        _file.Append(Record(bytes.GetBuffer().AsSpan(0, (int)bytes.Length)));
    }
}
