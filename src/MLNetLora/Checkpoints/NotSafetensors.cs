using System.Text;

namespace MLNetLora.Checkpoints;

/// <summary>Files that are given as weights and are something else: what they are, and what to do. Shown by their first bytes, whatever they are
/// named.</summary>
internal static class NotSafetensors
{
    private static readonly (string Head, string Is)[] s_known =
    [
        ("GGUF", "is a GGUF file, llama.cpp's format of quantized weights, which cannot be trained. Use the checkpoint that it was made from: a folder with "
            + "config.json and *.safetensors."),
        ("version https://git-lfs",
            "is a pointer of git-lfs, not the file itself. Fetch the files: git lfs install, then git lfs pull in the folder; or hf download."),
        ("PK\u0003\u0004", "is a zip archive: PyTorch's pickle format, which is never opened because it can run any code, or a packed checkpoint. Convert or "
            + "unpack it to safetensors."),
        ("<!DOCTYPE", "is a web page, not the file itself: the download went to a page. Download it again, with hf download."),
    ];

    /// <summary>What a file is; null where it may be what it should be.</summary>
    /// <param name="path">A file.</param>
    /// <returns>The rest of a sentence that begins with the path.</returns>
    public static string? Of(string path)
    {
        try
        {
            using FileStream stream = File.OpenRead(path);
            return Of(stream);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null; // whoever reads the file says so
        }
    }

    private static string? Of(Stream stream)
    {
        byte[] head = new byte[64];
        int length = stream.ReadAtLeast(head, head.Length, throwOnEndOfStream: false);
        string text = Encoding.Latin1.GetString(head, 0, length);
        foreach ((string known, string what) in s_known)
        {
            if (text.StartsWith(known, StringComparison.OrdinalIgnoreCase))
            {
                return what;
            }
        }

        return null;
    }
}
