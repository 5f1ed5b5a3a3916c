using System.Globalization;
using System.IO.Hashing;
using System.Text.Json;
using MLNetLora.Checkpoints;

namespace MLNetLora.Training;

/// <summary>A checkpoint of a run: how far it was, every step until there, and what run it is. Its file is written last and has the lengths and hashes of all
/// others, so that whatever a lost power or a full disk has left is known.</summary>
/// <param name="Folder">Where it is.</param>
/// <param name="State">How far the run was.</param>
/// <param name="Identity">What run.</param>
/// <param name="Steps">The steps made.</param>
internal sealed record SavedRun(string Folder, TrainingState State, RunIdentity Identity, IReadOnlyList<TrainingProgress> Steps)
{
    /// <summary>Name of the file.</summary>
    public const string FileName = "mlnetlora_state.json";

    private const int Version = 1;
    private const int MostBytes = 64 << 20;

    private static readonly JsonSerializerOptions s_json = new()
    {
        WriteIndented = true,
        IgnoreReadOnlyProperties = true,
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
    };

    /// <summary>The optimizer's states and the parameters.</summary>
    public SafetensorsFile Tensors() => SafetensorsFile.Open(Path.Combine(Folder, StateTensors.FileName));

    /// <summary>Completes a checkpoint whose other files are in a folder.</summary>
    public static void Write(string folder, TrainingState state, RunIdentity identity)
    {
        Dictionary<string, FileMark> files = Directory.EnumerateFiles(folder).ToDictionary(path => Path.GetFileName(path), FileMark.Of);
        byte[] text = JsonSerializer.SerializeToUtf8Bytes(new Content(Version, state, identity, files, Hash(state, identity, files)), s_json);
        AtomicFile.Write(Path.Combine(folder, FileName), stream => stream.Write(text));
    }

    /// <summary>Reads a checkpoint, and every file of it against what was written.</summary>
    /// <exception cref="CheckpointException">A file is missing or is not what was written.</exception>
    public static SavedRun Read(string folder)
    {
        string path = Path.Combine(folder, FileName);
        try
        {
            ReadOnlyMemory<byte> bytes = BoundedFile.Read(path, MostBytes) ?? throw new CheckpointException($"{path} has more than {MostBytes} bytes.");
            Content content = JsonSerializer.Deserialize<Content>(bytes.Span, s_json) ?? throw new CheckpointException($"{path} is empty.");
            if (content.Version != Version)
            {
                throw new OptionException($"{path} is of format {content.Version}, and this version of the library reads {Version}: it is of another version.");
            }

            if (content.Hash != Hash(content.State, content.Identity, content.Files))
            {
                throw new CheckpointException($"{path} is not what was written: it is damaged, or was changed.");
            }

            foreach ((string name, FileMark mark) in content.Files)
            {
                if (mark is null || name != Path.GetFileName(name) || name.Contains('\\'))
                {
                    throw new CheckpointException($"{path} names the file '{name}', which is no plain name.");
                }

                mark.Require(Path.Combine(folder, name));
            }

            string steps = Path.Combine(folder, TrainerStateFile.FileName);
            SavedRun run = new(folder, content.State, content.Identity, TrainerStateFile.Read(steps));
            bool isWhole = run.State is { Step: > 0, MicroBatch: >= 0, Epoch: >= 0, Window: >= 0, Skipped: >= 0 } && run.State.Skipped <= run.State.Step
                && run.State.Scale is { Factor: > 0 and < float.PositiveInfinity, GoodSteps: >= -1 }
                && run.State.Skipped == run.Steps.Count(step => step.WasSkipped)
                && run.Steps.Count == run.State.Step
                    && content.Files.ContainsKey(StateTensors.FileName);
            return isWhole ? run : throw new CheckpointException($"{path} contradicts {steps}.");
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new CheckpointException($"{path} is damaged: {e.Message}", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException($"{path} cannot be read: {e.Message}", e);
        }
    }

    /// <summary>What the file has.</summary>
    private sealed record Content(int Version, TrainingState State, RunIdentity Identity, IReadOnlyDictionary<string, FileMark> Files, string Hash);

    /// <summary>XXH128 of what the file says.</summary>
    private static string Hash(TrainingState state, RunIdentity identity, IReadOnlyDictionary<string, FileMark> files) => XxHash128
        .HashToUInt128(JsonSerializer.SerializeToUtf8Bytes((object[])[state, identity, files], s_json)).ToString("x32", CultureInfo.InvariantCulture);

    /// <summary>A file as it was written.</summary>
    /// <param name="Bytes">Its length.</param>
    /// <param name="Xxh128">XXH128 of its contents, hexadecimal.</param>
    private sealed record FileMark(long Bytes, string Xxh128)
    {
        public static FileMark Of(string path)
        {
            using FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1 << 20, FileOptions.SequentialScan);
            XxHash128 hash = new();
            hash.Append(stream);
            return new FileMark(stream.Length, hash.GetCurrentHashAsUInt128().ToString("x32", CultureInfo.InvariantCulture));
        }

        public void Require(string path)
        {
            if (!File.Exists(path))
            {
                throw new CheckpointException($"{path} is missing.");
            }

            if (new FileInfo(path).Length is var length && length != Bytes)
            {
                throw new CheckpointException(FormattableString.Invariant($"{path} has {length} bytes, and had {Bytes} when it was written."));
            }

            if (Bytes > 0 && Of(path) != this)
            {
                throw new CheckpointException($"{path} is not what was written: it is damaged, or was changed.");
            }
        }
    }
}
