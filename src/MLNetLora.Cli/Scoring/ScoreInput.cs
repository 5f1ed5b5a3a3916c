using System.IO.Hashing;
using MLNetLora.Text;

namespace MLNetLora.Cli.Scoring;

/// <summary>A file of rows, by what it holds.</summary>
/// <param name="Name">Its name, for people.</param>
/// <param name="Bytes">Its length.</param>
/// <param name="XxHash128">Of its bytes.</param>
internal sealed record ScoredFile(string Name, long Bytes, string XxHash128);

/// <summary>The rows that are to be answered.</summary>
/// <param name="Files">The files, in their order.</param>
/// <param name="Rows">How many rows they have together.</param>
internal sealed record ScoreInput(IReadOnlyList<ScoredFile> Files, long Rows)
{
    /// <summary>Reads all of it once, so that a file that cannot be cut into rows is known before the first answer.</summary>
    /// <param name="path">A file or a pattern.</param>
    /// <param name="format">How its rows are written.</param>
    /// <param name="cancellation">Ends the reading.</param>
    /// <exception cref="DatasetException">No file matches, one cannot be read, or there are no rows.</exception>
    public static ScoreInput Read(string path, DatasetFormat format, CancellationToken cancellation)
    {
        List<ScoredFile> files = [];
        foreach (string file in DatasetFiles.Find(path))
        {
            XxHash128 hash = new();
            using FileStream stream = new(file, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0, FileOptions.SequentialScan);
            if (!stream.CanSeek)
            {
                throw new DatasetException($"{file} is no file but a pipe, and rows are read more than once: write them into a file, and give that.");
            }

            byte[] buffer = new byte[1 << 20];
            for (int read; (read = stream.Read(buffer)) > 0;)
            {
                cancellation.ThrowIfCancellationRequested();
                hash.Append(buffer.AsSpan(0, read));
            }

            files.Add(new ScoredFile(Path.GetFileName(file), stream.Length, Convert.ToHexStringLower(hash.GetHashAndReset())));
        }

        long rows = 0;
        foreach (QuestionRow _ in Dataset.ReadEachQuestion(path, format, Count))
        {
            // None is wanted.
        }

        return rows > 0 ? new ScoreInput(files, rows) : throw new DatasetException($"{path} has no rows. Write at least one row.");

        bool Count(long row)
        {
            cancellation.ThrowIfCancellationRequested();
            rows = row + 1;
            return false;
        }
    }

    /// <summary>Whether both are the same rows.</summary>
    public bool IsSame(ScoreInput other) =>
        Rows == other.Rows && Files.Select(file => (file.Bytes, file.XxHash128)).SequenceEqual(other.Files.Select(file => (file.Bytes, file.XxHash128)));
}
