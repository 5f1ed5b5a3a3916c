using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.TextGeneration;

/// <summary>What a saved model remembers of the checkpoint it was trained on: where it was, and by what to tell that a folder holds the same one.</summary>
/// <param name="Location">The path or hub id as the user gave it; a path may be relative.</param>
/// <param name="AbsolutePath">The folder that it led to, in full.</param>
/// <param name="TotalSize">Bytes of all weight files.</param>
/// <param name="Files">The weight files.</param>
/// <param name="Fingerprint">Config, template and tokenizer; null in zips of format 1.</param>
/// <param name="ConfigSha256">Of zips of format 1: SHA-256 of config.json.</param>
internal sealed record BaseModelRecord(
    string Location,
    string AbsolutePath,
    long TotalSize,
    IReadOnlyList<BaseModelFile> Files,
    CheckpointFingerprint? Fingerprint = null,
    string? ConfigSha256 = null)
{
    private const int MaximumPath = 16_384;

    /// <summary>Records the checkpoint; reads its small files, and of the weights the headers and a sample.</summary>
    /// <param name="location">As the user gave it.</param>
    /// <param name="checkpoint">The checkpoint.</param>
    /// <param name="cancellation">Ends the reading.</param>
    public static BaseModelRecord Create(string location, Checkpoint checkpoint, CancellationToken cancellation = default)
    {
        int blocks = WeightSample.Blocks(checkpoint.Files);
        BaseModelFile[] files =
            [.. checkpoint.Files.Select(file => BaseModelFile.Create(checkpoint.Folder, Path.GetFileName(file.Source), blocks, cancellation))];
        return new BaseModelRecord(location, checkpoint.Folder, files.Sum(file => file.Size), files, CheckpointFingerprint.Read(checkpoint.Folder));
    }

    /// <summary>In what the folder differs from the recorded checkpoint: file, expected, found. Null when it is the same.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="cancellation">Ends the reading.</param>
    public string? Difference(string folder, CancellationToken cancellation = default)
    {
        try
        {
            if (!File.Exists(Path.Combine(folder, QwenConfig.FileName)))
            {
                return $"{QwenConfig.FileName} is missing";
            }

            // Sizes of all files first: the cheapest check that tells most wrong checkpoints. Weights last: they are the most to read.
            return OldConfigDifference(folder)
                ?? First(file => file.SizeDifference(folder))
                ?? First(file => file.HeaderDifference(folder))
                ?? Fingerprint?.Difference(folder)
                ?? First(file => file.ContentDifference(folder, cancellation));
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or MLNetLoraException)
        {
            return exception.Message;
        }
    }

    /// <summary>Throws an <see cref="AdapterException"/> when the record, which comes from an untrusted zip, could lead out of a checkpoint folder or
    /// makes no sense.</summary>
    public void Validate()
    {
        if (!IsPath(Location) || !IsPath(AbsolutePath))
        {
            throw new AdapterException("The model zip's record of where the base checkpoint was is no path; the zip is damaged, save the model again.");
        }

        // The nullable annotations that the reader respects say nothing of elements.
        if (Files.FirstOrDefault(file => file is not null && !BaseModelFile.IsPlainName(file.Name)) is { } wrong)
        {
            throw new AdapterException($"The model zip names the base checkpoint's file '{wrong.Name}'; only plain names of .safetensors files are accepted.");
        }

        bool known = Fingerprint is not null || ConfigSha256 is not null;
        if (!known || Files.Count == 0 || Files.Any(file => file is not { Size: >= 0, Blocks: >= WeightSample.FewestBlocks and <= WeightSample.MostBlocks })
            || Files.Aggregate(Int128.Zero, (sum, file) => sum + file.Size) != TotalSize)
        {
            throw new AdapterException("The model zip's record of the base checkpoint contradicts itself; the zip is damaged, save the model again.");
        }
    }

    private static bool IsPath(string path) => path.Length is > 0 and <= MaximumPath && !path.Contains('\0');

    private string? First(Func<BaseModelFile, string?> difference) => Files.Select(difference).FirstOrDefault(found => found is not null);

    private string? OldConfigDifference(string folder)
    {
        string? found = ConfigSha256 is null ? null : OldChecks.Sha256(Path.Combine(folder, QwenConfig.FileName));
        return found == ConfigSha256 ? null : $"{QwenConfig.FileName} differs: SHA-256 {ConfigSha256} was expected, it is {found}";
    }
}
