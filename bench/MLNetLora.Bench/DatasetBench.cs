using System.Diagnostics;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using MLNetLora.Runtime;
using MLNetLora.Text;

namespace MLNetLora.Bench;

/// <summary>A JSONL file of any size, generated, streamed through <see cref="Dataset"/> and deleted: rows/s, MB/s and what memory it takes.</summary>
internal static class DatasetBench
{
    private const string Sentences = "公司的年假政策是怎样的？员工每年有十五天带薪年假。The quick brown fox jumps over the lazy dog.\nFirst, second, third: \"quoted\" text. ";

    public static void Run(double gigabytes)
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("mlnetlora-bench-");
        try
        {
            string path = Path.Combine(folder.FullName, "rows.jsonl");
            long written = Write(path, (long)(gigabytes * 1e9));
            using PeakMemory memory = new();
            long begun = Stopwatch.GetTimestamp();
            long rows = 0;
            long characters = 0;
            foreach (DatasetRow row in Dataset.Read(path))
            {
                rows++;
                characters += row.Conversation!.Messages.Sum(message => (long)message.Content!.Length);
            }
            double seconds = Stopwatch.GetElapsedTime(begun).TotalSeconds;
            double megabytes = new FileInfo(path).Length / 1e6;
            Console.WriteLine($"file                         {megabytes / 1e3:F2} GB, {rows} rows of {written} read, {characters} characters of messages");
            Console.WriteLine($"reading                      {seconds:F1} s, {rows / seconds:F0} rows/s, {megabytes / seconds:F1} MB/s on one thread");
            Console.WriteLine($"peak private memory          {memory.Peak / 1e6:F1} MB");
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    /// <summary>Writes rows of 100 to 4,000 characters until the file has the size.</summary>
    private static long Write(string path, long bytes)
    {
        Random random = new(1);
        string words = string.Concat(Enumerable.Repeat(Sentences, 40));
        JsonSerializerOptions options = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
        byte[][] rows = [.. Enumerable.Range(0, 4096).Select(i => Encoding.UTF8.GetBytes(
            JsonSerializer.Serialize(new { instruction = $"{i} {Piece(50, 500)}", input = "", output = Piece(50, 3500) }, options) + "\n"))];
        using FileStream file = File.Create(path, 1 << 20);
        long count = 0;
        for (; file.Position < bytes; count++)
        {
            file.Write(rows[random.Next(rows.Length)]);
        }

        return count;

        string Piece(int least, int most) => words.Substring(random.Next(Sentences.Length), random.Next(least, most));
    }
}
