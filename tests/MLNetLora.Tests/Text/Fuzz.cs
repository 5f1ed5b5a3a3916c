using System.Text;

namespace MLNetLora.Tests.Text;

/// <summary>Seeded random cases. FUZZ_CASES sets how many there are of each kind; without it a number that is quick.</summary>
internal static class Fuzz
{
    private static readonly string[] Spices =
    [
        "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>", "assistant\n", "\u0301", "\uD83D", "\uDE00", "😀", "\U00020000", "\uFFFE",
        "\uFFFF", "\0", "\r\n", "\u2028", "\u0085",
        "한", "ᄒ", "ᅡ", "ᆫ", "Å", "你好", " ", "  \n", "'s", "'LL", "123", "\u200B", "\u202E", "e\u0301", "ﬁ", "ǅ", "\u1E9B\u0323", "\uF900", "\t", "{{", "}}",
        "{%", "%}", "\"", "\\", "[", "]", "{", "}", ",", ":",
    ];

    /// <summary>How many cases a test runs.</summary>
    public static int Cases(int otherwise) => int.TryParse(Environment.GetEnvironmentVariable("FUZZ_CASES"), out int cases) ? cases : otherwise;

    /// <summary>A text of anything: letters, all planes, unpaired surrogates, things that look like tokens.</summary>
    public static string Text(Random random, int longest = 60)
    {
        StringBuilder text = new();
        for (int left = random.Next(longest); left > 0; left--)
        {
            switch (random.Next(6))
            {
                case 0:
                    text.Append(Spices[random.Next(Spices.Length)]);
                    break;
                case 1:
                    text.Append((char)random.Next(0x10000));
                    break;
                case 2:
                    text.Append(char.ConvertFromUtf32(random.Next(0x10000, 0x110000)));
                    break;
                case 3:
                    text.Append((char)random.Next(0x4E00, 0x9FFF));
                    break;
                default:
                    text.Append((char)random.Next(0x20, 0x7F));
                    break;
            }
        }
        return text.ToString();
    }

    /// <summary>A file with a few bytes or pieces changed, removed, doubled, moved or put in.</summary>
    public static byte[] Mutate(Random random, byte[] original)
    {
        List<byte> bytes = [.. original];
        for (int changes = random.Next(1, 6); changes > 0; changes--)
        {
            int at = random.Next(bytes.Count + 1);
            int length = Math.Min(bytes.Count - at, random.Next(1, 1 << random.Next(1, 8)));
            byte[] piece = [.. bytes.Skip(at).Take(length)];
            switch (random.Next(7))
            {
                case 0:
                    bytes.RemoveRange(at, length);
                    break;
                case 1:
                    bytes.InsertRange(random.Next(bytes.Count + 1), piece);
                    break;
                case 2:
                    bytes.InsertRange(at, Encoding.UTF8.GetBytes(Spices[random.Next(Spices.Length)]));
                    break;
                case 3:
                    bytes.Insert(at, (byte)random.Next(256));
                    break;
                case 4:
                    bytes.InsertRange(at, Enumerable.Repeat(piece, random.Next(200)).SelectMany(part => part));
                    break;
                case 5:
                    bytes.RemoveRange(random.Next(bytes.Count + 1) is var end && end > at ? at : 0, Math.Abs(end - (end > at ? at : 0)));
                    break;
                default:
                    if (at < bytes.Count)
                    {
                        bytes[at] ^= (byte)(1 << random.Next(8));
                    }

                    break;
            }
        }
        return [.. bytes];
    }

    /// <summary>Runs a case: it gives a result or a typed error; anything else fails with what is needed to repeat it.</summary>
    /// <returns>Whether it gave a result.</returns>
    public static bool Survives(string kind, int seed, byte[] input, Action run)
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        System.Diagnostics.Stopwatch watch = System.Diagnostics.Stopwatch.StartNew();
        bool result = true;
        try
        {
            run();
        }
        catch (MLNetLoraException error)
        {
            Assert.False(string.IsNullOrWhiteSpace(error.Message));
            result = false;
        }
        catch (Exception error)
        {
            Assert.Fail($"{kind}, case {seed}: {error.GetType().Name}: {error.Message}\n{error.StackTrace}\n{Convert.ToBase64String(input)}");
        }
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(60), $"{kind}, case {seed} took {watch.Elapsed}: {Convert.ToBase64String(input)}");
        Assert.True(allocated < 4L << 30, $"{kind}, case {seed} allocated {allocated >> 20} MiB: {Convert.ToBase64String(input)}");
        return result;
    }
}
