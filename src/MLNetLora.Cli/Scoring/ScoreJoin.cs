using System.Text;
using MLNetLora.Checkpoints;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;

namespace MLNetLora.Cli.Scoring;

/// <summary>Puts the answers of shards into one file, in the order of the rows.</summary>
internal static class ScoreJoin
{
    /// <summary>Does it; a line of each file is in memory at a time.</summary>
    /// <param name="screen">Where is said what came of it.</param>
    /// <param name="paths">The files, in any order.</param>
    /// <param name="target">The file for all answers.</param>
    /// <param name="overwrite">Whether one that is there is replaced.</param>
    /// <exception cref="ConfigException">A file is no file of answers or of another run, or a row is missing or there twice.</exception>
    public static int Run(Screen screen, IReadOnlyList<string> paths, string target, bool overwrite)
    {
        if (!overwrite && File.Exists(target))
        {
            throw new ConfigException($"{target} is there already; --overwrite replaces it.");
        }

        long? expected = Rows(paths);
        (long rows, long failed) = (0, 0);
        List<Part> parts = [];
        try
        {
            parts.AddRange(paths.Select(path => new Part(path)));
            AtomicFile.Write(target, stream =>
            {
                PriorityQueue<Part, long> next = new();
                foreach (Part part in parts.Where(part => part.Read()))
                {
                    next.Enqueue(part, part.Row);
                }

                while (next.TryDequeue(out Part? part, out long row))
                {
                    screen.Interruption.Token.ThrowIfCancellationRequested();
                    if (row != rows)
                    {
                        throw new ConfigException(row < rows
                            ? $"{part.Path} has row {row + 1}, which another file, or itself before, has too. Give each shard's file once."
                            : $"Row {rows + 1} is in none of the files; the next one is row {row + 1}, in {part.Path}. Give the files of all shards.");
                    }

                    stream.Write(part.Line);
                    stream.WriteByte((byte)'\n');
                    (rows, failed) = (rows + 1, failed + (part.IsError ? 1 : 0));
                    if (part.Read())
                    {
                        next.Enqueue(part, part.Row);
                    }
                }

                if (expected is { } all && all != rows)
                {
                    throw new ConfigException(FormattableString.Invariant(
                        $"Row {rows + 1} and those behind it, up to {all}, are in none of the files. Give the files of all shards."));
                }
            });
        }
        finally
        {
            foreach (Part part in parts)
            {
                part.Dispose();
            }
        }

        screen.WriteNote(FormattableString.Invariant($"{rows} answers are in {target}; {failed} of them are errors."));
        return ExitCode.Success;
    }

    /// <summary>How many rows there are, as the manifests say; null where there are none.</summary>
    private static long? Rows(IReadOnlyList<string> paths)
    {
        ScoreManifest? first = null;
        foreach (string path in paths)
        {
            if (ScoreManifest.Read(path) is not { } manifest)
            {
                continue;
            }

            if (!manifest.IsComplete)
            {
                throw new ConfigException($"{path} is not complete: shard {manifest.Shard} has not ended. Begin its command again.");
            }

            first ??= manifest;
            if (!first.Input.IsSame(manifest.Input) || first.Shard.Count != manifest.Shard.Count)
            {
                throw new ConfigException($"{path} belongs to other rows, or to another number of shards, than the files before it.");
            }

            if (first.SettingsDifference(manifest) is { } difference)
            {
                throw new ConfigException($"{path} was answered otherwise than the files before it: {difference}.");
            }
        }

        return first?.Input.Rows;
    }

    /// <summary>A file that is read line by line.</summary>
    private sealed class Part(string path) : IDisposable
    {
        private readonly StreamReader _reader = new(path);

        public string Path => path;

        public byte[] Line { get; private set; } = [];

        public long Row { get; private set; }

        public bool IsError { get; private set; }

        public bool Read()
        {
            if (NextLine() is not { } line)
            {
                return false;
            }

            Line = Encoding.UTF8.GetBytes(line);
            (Row, IsError) = ScoredRow.Read(Line) ?? throw new ConfigException($"{path} has a line that is no answer of 'mlnetlora score': {Short(line)}");
            return true;
        }

        public void Dispose() => _reader.Dispose();

        /// <summary>A line, of which no more is taken into memory than one can have.</summary>
        private string? NextLine()
        {
            StringBuilder line = new();
            int next;
            while ((next = _reader.Read()) >= 0 && next != '\n')
            {
                line.Append(line.Length < ScoreFile.LongestLine ? (char)next : throw new ConfigException(
                    $"{path} has a line that is no answer of 'mlnetlora score': it has more than {ScoreFile.LongestLine >> 20} MiB."));
            }

            return next < 0 && line.Length == 0 ? null : line.ToString();
        }

        private static string Short(string line) => line.Length <= 80 ? line : line[..80] + "…";
    }
}
