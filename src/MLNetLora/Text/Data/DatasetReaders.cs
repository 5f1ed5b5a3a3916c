using System.Collections.Concurrent;
using System.Text.Json;

namespace MLNetLora.Text;

/// <summary>
/// Readers of files that this library does not read itself; MLNetLora.Parquet brings one. A row is given as the JSON object that a line of JSONL would hold, so
/// formats are recognized and checked in one way.
/// </summary>
public static class DatasetReaders
{
    private static readonly ConcurrentDictionary<string, Func<string, IEnumerable<JsonElement>>> Readers = new();

    /// <summary>Reads files of an extension with a reader from now on, in this process; the last one registered counts.</summary>
    /// <param name="extension">The end of the files' names in small letters, with its dot: <c>.parquet</c>.</param>
    /// <param name="read">
    /// Makes the rows of the file at a path, while they are enumerated; called anew in every pass, from any thread. What is wrong with the file it says with a
    /// <see cref="DatasetException"/>.
    /// </param>
    /// <exception cref="ArgumentException">The extension is not one.</exception>
    public static void Register(string extension, Func<string, IEnumerable<JsonElement>> read)
    {
        ArgumentException.ThrowIfNullOrEmpty(extension);
        ArgumentNullException.ThrowIfNull(read);
        if (extension.Length < 2 || extension[0] != '.' || extension is ".gz" || DatasetFiles.Extension(extension) != extension)
        {
            throw new ArgumentException($"\"{extension}\" is not an extension such as \".parquet\".", nameof(extension));
        }

        Readers[extension] = read;
    }

    /// <summary>
    /// The names of the fields that rows can have, in any case: what a reader of a columnar format need not skip. Other fields are not read; name them in a row
    /// with null, so that messages can say what there was.
    /// </summary>
    public static IReadOnlySet<string> Fields => DatasetFields.All;

    /// <summary>The reader of a file; null where none was registered for it.</summary>
    internal static Func<string, IEnumerable<JsonElement>>? Find(string path) => Readers.GetValueOrDefault(DatasetFiles.Extension(path));
}
