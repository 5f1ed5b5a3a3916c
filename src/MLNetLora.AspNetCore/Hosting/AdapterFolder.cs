using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.AspNetCore;

/// <summary>An adapter as it lies on disk. Links are followed once, so that what is read belongs together where a link is changed meanwhile.</summary>
internal static class AdapterFolder
{
    private static readonly string[] s_needed = [LoraAdapter.ConfigName, LoraAdapter.WeightsName];
    private static readonly string[] s_files = [.. s_needed, PromptSettings.FileName];

    /// <summary>Which files there are, where they really lie, how long they are and when they were written: another text where something has changed.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="missing">A file that an adapter has and this folder has not, or has empty; null where it is complete.</param>
    /// <exception cref="IOException">It cannot be looked at, or is gone.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be looked at.</exception>
    public static string Stamp(string folder, out string? missing)
    {
        missing = null;
        StringBuilder stamp = new();
        foreach (string name in s_files)
        {
            string path = Path.Combine(folder, name);
            FileInfo? file = File.Exists(path) ? new FileInfo(RealPath.Of(path)) : null;
            if (file is not null)
            {
                stamp.Append(CultureInfo.InvariantCulture, $"{file.FullName}|{file.Length}|{file.LastWriteTimeUtc.Ticks}\n");
            }

            // What claims no length may be a pipe or a device, which would be read without end.
            if (file is null ? s_needed.Contains(name) : file.Length == 0)
            {
                missing ??= name;
            }
        }

        return stamp.ToString();
    }

    /// <summary>SHA-256 of what the files hold.</summary>
    /// <inheritdoc cref="Stamp" path="/exception"/>
    public static string Hash(string folder)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] buffer = new byte[1 << 16];
        foreach (string name in s_files)
        {
            string path = Path.Combine(folder, name);
            hash.AppendData(Encoding.UTF8.GetBytes($"{name}\n{File.Exists(path)}\n"));
            if (!File.Exists(path))
            {
                continue;
            }

            using FileStream stream = File.OpenRead(path);
            for (int read; (read = stream.Read(buffer)) > 0;)
            {
                hash.AppendData(buffer, 0, read);
            }
        }

        return Convert.ToHexString(hash.GetHashAndReset());
    }

    /// <summary>Reads an adapter and looks at all of it: configuration, shapes against the base, numbers.</summary>
    /// <exception cref="AdapterException">It cannot be used with this base.</exception>
    public static LoraAdapter Read(string folder, Checkpoint checkpoint)
    {
        try
        {
            foreach (string path in s_files.Select(name => Path.Combine(folder, name)).Where(File.Exists))
            {
                if (new FileInfo(RealPath.Of(path)).Length == 0) // see Stamp
                {
                    throw new AdapterException($"{path} is empty, or no file.");
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new AdapterException($"The adapter in {folder} cannot be read: {e.Message}", e);
        }

        LoraAdapter adapter = LoraAdapter.LoadPeft(folder, checkpoint);
        foreach ((AdapterTensor tensor, float[] values) in adapter.Tensors)
        {
            if (!FiniteNumbers.Are(values))
            {
                throw new AdapterException(
                    $"{Path.Combine(folder, LoraAdapter.WeightsName)}: '{tensor.Key}' holds NaN or infinite numbers. The training has diverged, or the file is "
                    + "damaged.");
            }
        }

        return adapter;
    }

    /// <summary>A folder that a request names, which lies in a root with all its files, whatever links there are.</summary>
    /// <param name="root">The root.</param>
    /// <param name="path">Absolute, or from the root on.</param>
    /// <param name="folder">Where it really is.</param>
    /// <returns>Null, or why it may not be loaded. Of what lies outside nothing is said, not even whether it is there.</returns>
    public static ServingError? Inside(string root, string path, out string folder)
    {
        folder = "";
        ServingError outside = ServingError.Invalid("lora_path is not a folder inside the one that adapters may be loaded from.", "lora_path", "invalid_value");
        if (path.Contains('\0'))
        {
            return outside;
        }

        try
        {
            string realRoot = RealPath.Of(root);
            string asked = Path.GetFullPath(path, Path.GetFullPath(root));
            if (!IsBelow(Path.GetFullPath(root), asked) && !IsBelow(realRoot, asked))
            {
                return outside;
            }

            string there = asked;
            while (!Directory.Exists(there))
            {
                there = Path.GetDirectoryName(there)!; // ends at the root, which is there
            }

            string realThere = RealPath.Of(there);
            if (realThere != realRoot && !IsBelow(realRoot, realThere))
            {
                return outside;
            }

            if (there != asked)
            {
                return ServingError.NotFound($"There is no folder '{path}'.", "lora_path", "adapter_not_found");
            }

            string real = folder = RealPath.Of(asked);
            foreach (string file in (string[])[real, .. s_files.Select(name => Path.Combine(real, name)).Where(File.Exists)])
            {
                if (!IsBelow(realRoot, RealPath.Of(file)))
                {
                    return outside;
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return outside;
        }

        return null;
    }

    private static bool IsBelow(string root, string path) =>
        path.StartsWith(root.TrimEnd(Path.DirectorySeparatorChar) + Path.DirectorySeparatorChar, StringComparison.Ordinal);
}
