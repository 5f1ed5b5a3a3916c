using System.Text;

namespace MLNetLora.Parquet.Tests;

/// <summary>A Parquet file written byte by byte, so that its footer can say what no writer would.</summary>
internal static class HandmadeFile
{
    /// <summary>One row "hello" in a column named text, inside depth − 1 groups.</summary>
    public static byte[] Make(byte[]? value = null, int depth = 1, long declaredBytes = -1, long groups = 1)
    {
        value ??= "hello"u8.ToArray();
        byte[] data = [.. BitConverter.GetBytes(value.Length), .. value];
        byte[] page =
        [
            .. new Struct().Int(1, 0).Int(2, data.Length).Int(3, data.Length).Nested(5, new Struct().Int(1, 1).Int(2, 0).Int(3, 3).Int(4, 3)).End(),
            .. data,
        ];
        byte[][] path = [Struct.Text("text"), .. Enumerable.Repeat(Struct.Text("a"), depth - 1)];
        long declared = declaredBytes < 0 ? page.Length : declaredBytes;
        Struct column = new Struct().Int(1, 6).List(2, 5, [Struct.Number(0)]).List(3, 8, path).Int(4, 0).Long(5, 1)
            .Long(6, declared).Long(7, page.Length).Long(9, 4);
        byte[] group = new Struct().List(1, 12, [new Struct().Long(2, 4).Nested(3, column).End()]).Long(2, page.Length).Long(3, 1).End();
        byte[][] schema = [new Struct().Binary(4, "schema"u8).Int(5, 1).End(), .. Enumerable.Range(0, depth).Select(level =>
        {
            ReadOnlySpan<byte> name = level == 0 ? "text"u8 : "a"u8;
            return level == depth - 1 ? new Struct().Int(1, 6).Int(3, 0).Binary(4, name).End() : new Struct().Int(3, 0).Binary(4, name).Int(5, 1).End();
        })];
        byte[] footer = new Struct().Int(1, 1).List(2, 12, schema).Long(3, groups).List(4, 12, [.. Enumerable.Repeat(group, (int)groups)]).End();
        return [.. "PAR1"u8, .. page, .. footer, .. BitConverter.GetBytes(footer.Length), .. "PAR1"u8];
    }

    /// <summary>Thrift's compact protocol.</summary>
    private sealed class Struct
    {
        private readonly List<byte> _bytes = [];
        private int _last;

        public static byte[] Number(long value) => Unsigned((ulong)((value << 1) ^ (value >> 63)));

        public static byte[] Text(string text) => [.. Unsigned((ulong)text.Length), .. Encoding.UTF8.GetBytes(text)];

        public Struct Int(int id, int value) => Field(id, 5, Number(value));

        public Struct Long(int id, long value) => Field(id, 6, Number(value));

        public Struct Binary(int id, ReadOnlySpan<byte> value) => Field(id, 8, [.. Unsigned((ulong)value.Length), .. value]);

        public Struct Nested(int id, Struct value) => Field(id, 12, value.End());

        public Struct List(int id, int type, byte[][] items)
        {
            byte[] length = items.Length < 15
                ? [(byte)((items.Length << 4) | type)]
                : [(byte)(0xF0 | type), .. Unsigned((ulong)items.Length)];
            return Field(id, 9, [.. length, .. items.SelectMany(item => item)]);
        }

        public byte[] End() => [.. _bytes, 0];

        private static byte[] Unsigned(ulong value)
        {
            List<byte> bytes = [];
            for (; value >= 0x80; value >>= 7)
            {
                bytes.Add((byte)(value | 0x80));
            }

            return [.. bytes, (byte)value];
        }

        private Struct Field(int id, int type, byte[] value)
        {
            _bytes.Add((byte)(((id - _last) << 4) | type));
            _bytes.AddRange(value);
            _last = id;
            return this;
        }
    }
}
