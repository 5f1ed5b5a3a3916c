using MLNetLora.Tests;
using MLNetLora.Tests.Text;
using MLNetLora.Text;
using ParquetSharp;

namespace MLNetLora.Parquet.Tests;

/// <summary>Files with changed bytes give rows or a typed error: no crash of the native reader, no hang.</summary>
public sealed class ParquetFuzzTests : IDisposable
{
    private static readonly string[] Rows =
    [
        """{"instruction":"q","input":"你好","output":"a","history":[["x","y"]],"messages":[{"role":"user","content":"q"},"""
        + """{"role":"assistant","content":"a","weight":1}]}""",
        """{"instruction":"r","output":"b","messages":[{"role":"assistant","content":"c"}]}""",
        """{"instruction":"r","input":null,"output":"b","history":[],"messages":[{"role":"user","content":"q"},{"role":"assistant","tool_calls":["""
        + """{"function":{"name":"f","arguments":{"b":1}}}]}]}""",
    ];

    private readonly TemporaryFolder _folder = new();

    public ParquetFuzzTests() => ParquetData.Register();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Mutated_files_give_rows_or_a_typed_error()
    {
        string path = _folder.File("a.parquet");
        List<byte[]> originals = [HandmadeFile.Make()];
        foreach (Compression compression in (Compression[])[Compression.Uncompressed, Compression.Snappy, Compression.Gzip, Compression.Zstd])
        {
            foreach (bool other in (bool[])[false, true])
            {
                ArrowRows.Write(
                    path,
                    [.. Enumerable.Range(0, 30).Select(i => Rows[i % Rows.Length])],
                    rowsPerGroup: 20,
                    compression,
                    dictionary: other,
                    large: other,
                    schema: other);
                originals.Add(File.ReadAllBytes(path));
            }
        }
        int results = 0;
        int cases = Fuzz.Cases(600);
        for (int seed = 0; seed < cases; seed++)
        {
            Random random = new(seed);
            byte[] bytes = Mutate(random, originals[random.Next(originals.Count)], seed);
            File.WriteAllBytes(path, bytes);
            foreach (DatasetFormat format in (DatasetFormat[])[DatasetFormat.Recognize, DatasetFormat.Instruction])
            {
                results += Fuzz.Survives("parquet", seed, bytes, () => Assert.NotEmpty(Dataset.Read(path, format).ToArray())) ? 1 : 0;
            }
        }
        Assert.InRange(results, cases / 100, (cases * 2) - 1);
    }

    /// <summary>
    /// Changed bytes in place, so that the footer is still found: in the pages, in the footer, anywhere; every fourth file also with bytes put in or taken out.
    /// </summary>
    private static byte[] Mutate(Random random, byte[] original, int seed)
    {
        if (seed % 4 == 3)
        {
            return Fuzz.Mutate(random, original);
        }

        byte[] bytes = [.. original];
        int footer = BitConverter.ToInt32(bytes, bytes.Length - 8);
        (int from, int to) = (seed % 4) switch
        {
            0 => (bytes.Length - 8 - footer, bytes.Length - 8),
            1 => (4, bytes.Length - 8 - footer),
            _ => (0, bytes.Length),
        };
        for (int changes = random.Next(1, 5); changes > 0; changes--)
        {
            int at = random.Next(from, to);
            bytes[at] = random.Next(3) switch { 0 => (byte)(bytes[at] ^ (1 << random.Next(8))), 1 => (byte)random.Next(256), _ => 0xFF };
        }
        return bytes;
    }
}
