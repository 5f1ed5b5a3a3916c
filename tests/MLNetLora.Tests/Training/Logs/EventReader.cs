using System.Buffers.Binary;
using Google.Protobuf;

namespace MLNetLora.Tests.Training;

/// <summary>An event of TensorBoard as the test reads it.</summary>
internal sealed record Event(double WallTime, long Step, string? Version, int? Session, IReadOnlyDictionary<string, object> Values);

/// <summary>Reads event files by their published format: nothing of it is the writer's code.</summary>
internal static class EventReader
{
    private static readonly uint[] s_table = [.. Enumerable.Range(0, 256).Select(Entry)];

    /// <summary>All events of a file; a record that is not whole, or whose checksum is wrong, fails.</summary>
    public static Event[] Read(string path)
    {
        List<Event> events = [];
        byte[] bytes = File.ReadAllBytes(path);
        for (int at = 0; at < bytes.Length;)
        {
            int length = checked((int)BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(at)));
            Assert.Equal(Masked(bytes.AsSpan(at, 8)), BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(at + 8)));
            ReadOnlySpan<byte> data = bytes.AsSpan(at + 12, length);
            Assert.Equal(Masked(data), BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(at + 12 + length)));
            events.Add(Parse(data.ToArray()));
            at += 12 + length + 4;
        }

        return [.. events];
    }

    /// <summary>CRC-32C by its polynomial, a bit at a time into a table.</summary>
    public static uint Checksum(ReadOnlySpan<byte> data)
    {
        uint crc = uint.MaxValue;
        foreach (byte value in data)
        {
            crc = s_table[(crc ^ value) & 0xff] ^ (crc >> 8);
        }

        return ~crc;
    }

    public static uint Masked(ReadOnlySpan<byte> data)
    {
        uint crc = Checksum(data);
        return unchecked(((crc >> 15) | (crc << 17)) + 0xa282ead8u);
    }

    private static uint Entry(int index)
    {
        uint crc = (uint)index;
        for (int bit = 0; bit < 8; bit++)
        {
            crc = (crc & 1) == 1 ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
        }

        return crc;
    }

    private static Event Parse(byte[] data)
    {
        (double time, long step, string? version, int? session) = (0, 0, null, null);
        Dictionary<string, object> values = [];
        Fields(data, (field, input) =>
        {
            switch (field)
            {
                case 1: time = input.ReadDouble(); break;
                case 2: step = input.ReadInt64(); break;
                case 3: version = input.ReadString(); break;
                case 5: Fields(input.ReadBytes().ToByteArray(), (_, summary) => Value(summary.ReadBytes().ToByteArray(), values)); break;
                case 7: Fields(input.ReadBytes().ToByteArray(), (_, log) => session = log.ReadEnum()); break;
                default: Assert.Fail($"field {field} of an event"); break;
            }
        });
        return new Event(time, step, version, session, values);
    }

    private static void Value(byte[] data, Dictionary<string, object> values)
    {
        (string tag, object? value, string? plugin) = ("", null, null);
        Fields(data, (field, input) =>
        {
            switch (field)
            {
                case 1: tag = input.ReadString(); break;
                case 2: value = input.ReadFloat(); break;
                case 8: value = Strings(input.ReadBytes().ToByteArray()); break;
                case 9: plugin = Plugin(input.ReadBytes().ToByteArray()); break;
                default: Assert.Fail($"field {field} of a value"); break;
            }
        });
        Assert.Equal(value is string ? "text" : null, plugin);
        values.Add(tag, value!);
    }

    private static string? Plugin(byte[] metadata)
    {
        string? name = null;
        Fields(metadata, (_, plugin) => Fields(plugin.ReadBytes().ToByteArray(), (_, input) => name = input.ReadString()));
        return name;
    }

    private static string Strings(byte[] tensor)
    {
        string text = "";
        Fields(tensor, (field, input) =>
        {
            switch (field)
            {
                case 1: Assert.Equal(7, input.ReadEnum()); break; // DT_STRING
                case 2: Assert.Equal([0x12, 0x02, 0x08, 0x01], input.ReadBytes().ToByteArray()); break; // a shape of one dimension of size 1
                case 8: text += input.ReadString(); break;
                default: Assert.Fail($"field {field} of a tensor"); break;
            }
        });
        return text;
    }

    private static void Fields(byte[] data, Action<int, CodedInputStream> read)
    {
        CodedInputStream input = new(data);
        while (input.ReadTag() is not 0 and var tag)
        {
            read(WireFormat.GetTagFieldNumber(tag), input);
        }
    }
}
