using System.Text;

namespace MLNetLora.Text;

/// <summary>
/// Files that are given as data sets and are something else: what they are, and what to do. Shown by their first bytes, whatever they are named.
/// </summary>
internal static class ForeignFile
{
    /// <summary>Bytes that <see cref="Check"/> wants to see, where the file has as many.</summary>
    public const int HeadLength = 512;

    private const string Packed = "is compressed in a way that is not read here. Unpack it, or compress it with gzip.";

    private const string Workbook =
        "is a workbook. Save it in Excel as \"CSV UTF-8 (comma delimited)\", with the names of the columns in its first row, and name that file.";

    private const string Document =
        "is a document of a word processor. Save it as plain text (.txt), where every line is learned as a document of its own; "
        + "or write questions and answers into a .jsonl or .csv file.";

    private const string Office =
        "is a file of an office program. Save a workbook as \"CSV UTF-8\" and a document as plain text (.txt), and name that file.";

    private const string Pointer =
        "is a pointer of git-lfs, not the file itself. Fetch the file: git lfs install, then git lfs pull in its folder; "
        + "or download it anew, from Hugging Face with: hf download.";

    private static readonly (byte[] Magic, string Is)[] Known =
    [
        ("%PDF-"u8.ToArray(), "is a PDF. Take its text out: a document on every line of a .txt file, or questions and answers in a .jsonl or .csv file."),
        ("PAR1"u8.ToArray(),
            "is a Parquet file. Name it .parquet, add the package MLNetLora.Parquet and call ParquetData.Register() once before files are read."),
        ("ARROW1"u8.ToArray(), "is an Arrow file, a columnar format which is not read here. Convert it to JSONL or Parquet."),
        ("SQLite format 3\0"u8.ToArray(), "is a SQLite database. Export its table as CSV or JSONL."),
        ("PK\u0003\u0004"u8.ToArray(), "is a zip archive. Unpack it, and name the files in it, such as folder/*.jsonl."),
        ([0xD0, 0xCF, 0x11, 0xE0], Office),
        ([0xFD, (byte)'7', (byte)'z', (byte)'X', (byte)'Z', 0], Packed),
        ([0x28, 0xB5, 0x2F, 0xFD], Packed),
        ("BZh91AY&SY"u8.ToArray(), Packed),
        ([(byte)'7', (byte)'z', 0xBC, 0xAF], Packed),
        ("Rar!\u001A\u0007"u8.ToArray(), Packed),
        ([0x89, (byte)'P', (byte)'N', (byte)'G'], "is a picture. Pictures cannot be learned here."),
        ([0xFF, 0xD8, 0xFF], "is a picture. Pictures cannot be learned here."),
    ];

    /// <summary>What a file is by its name, where it needs no look inside; null where it may be a data set.</summary>
    public static string? ByName(string extension) => extension switch
    {
        ".arrow" => "is in a columnar format, which is not read here. Convert it to JSONL: "
            + "pandas.read_feather(…).to_json(…, orient=\"records\", lines=True, force_ascii=False).",
        ".xlsx" or ".xlsm" or ".xls" or ".ods" => Workbook,
        ".docx" or ".doc" or ".odt" or ".rtf" => Document,
        ".zip" or ".xz" or ".zst" or ".bz2" or ".7z" or ".rar" or ".tar" or ".tgz" => Packed,
        _ => null,
    };

    /// <summary>Refuses what is no data set.</summary>
    /// <param name="path">The file, for messages.</param>
    /// <param name="head">Its first bytes, unpacked.</param>
    /// <param name="isText">Whether it is named as plain text, which may well be the text of a web page.</param>
    /// <exception cref="DatasetException">It is something else; the message says what.</exception>
    public static void Check(string path, ReadOnlySpan<byte> head, bool isText)
    {
        if (Is(head, isText) is { } what)
        {
            throw new DatasetException($"{path} {what}");
        }
    }

    /// <summary>Refuses what stands in place of a file that was not fetched; for a file that a reader of <see cref="DatasetReaders"/> looks at.</summary>
    /// <exception cref="DatasetException">It is a pointer or a web page.</exception>
    public static void CheckPlaceholder(string path, ReadOnlySpan<byte> head)
    {
        if ((AsPointer(head) ?? AsWebPage(head)) is { } what)
        {
            throw new DatasetException($"{path} {what}");
        }
    }

    private static string? Is(ReadOnlySpan<byte> head, bool isText)
    {
        foreach ((byte[] magic, string what) in Known)
        {
            if (head.StartsWith(magic))
            {
                return head.IndexOf("[Content_Types].xml"u8) >= 0 && magic[0] == 'P' ? Office : what;
            }
        }

        return AsGguf(head) ?? AsPointer(head) ?? (isText ? null : AsWebPage(head)) ?? AsSafetensors(head) ?? AsUtf16(head);
    }

    /// <summary>The four letters and a version, of which three bytes are zero: a text may begin with the letters too.</summary>
    private static string? AsGguf(ReadOnlySpan<byte> head) => head.StartsWith("GGUF"u8) && head.Length >= 8 && head[4..8].Count((byte)0) >= 2
        ? "is a GGUF model, not a data set. Name the file with the rows to learn from; a base model is a Hugging Face folder with .safetensors files."
        : null;

    private static string? AsPointer(ReadOnlySpan<byte> head) => head.StartsWith("version https://git-lfs.github.com/spec"u8) ? Pointer : null;

    private static string? AsWebPage(ReadOnlySpan<byte> head)
    {
        string begin = Encoding.Latin1.GetString(head).TrimStart('\u00EF', '\u00BB', '\u00BF', ' ', '\t', '\r', '\n');
        return begin.StartsWith("<!DOCTYPE html", StringComparison.OrdinalIgnoreCase) || begin.StartsWith("<html", StringComparison.OrdinalIgnoreCase)
            ? "is a web page: a page about the file, or one that says why it did not come. Download the file itself; "
                + "on Hugging Face its address has /resolve/ in place of /blob/."
            : null;
    }

    /// <summary>Safetensors begin with the length of their header in eight bytes, and the header with a brace.</summary>
    private static string? AsSafetensors(ReadOnlySpan<byte> head) =>
        head.Length > 9 && head[4..8].IndexOfAnyExcept((byte)0) < 0 && head[8] == '{' && head[9] == '"'
        ? "is a file of weights (safetensors), not a data set. Name the file with the rows to learn from."
        : null;

    /// <summary>UTF-16 without a byte order mark: every second byte of ASCII text is zero. With one it is read, or refused by its reader.</summary>
    private static string? AsUtf16(ReadOnlySpan<byte> head)
    {
        if (head.Length < 8)
        {
            return null;
        }

        for (int i = 0; i < 8; i += 2)
        {
            if ((head[i] == 0) == (head[i + 1] == 0) || (head[i] == 0) != (head[0] == 0))
            {
                return null;
            }
        }

        return "is UTF-16 text. Save it as UTF-8.";
    }
}
