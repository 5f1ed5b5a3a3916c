using System.Globalization;
using Microsoft.ML.OnnxRuntime;

namespace MLNetLora.Runtime;

/// <summary>Execution providers of ONNX Runtime that come as libraries: registered once, found by name, tried before they are given a model.</summary>
internal static class CustomProvider
{
    private static readonly Lock s_lock = new();
    private static readonly Dictionary<string, string[]> s_libraries = []; // by full path, what each of them lists
    private static readonly HashSet<CustomDevice> s_started = [];

    /// <summary>Throws where a device cannot be used.</summary>
    /// <param name="device">The device.</param>
    /// <exception cref="DeviceException">It cannot; the message names what is missing and what to do.</exception>
    public static void Require(CustomDevice device)
    {
        using SessionOptions options = NativeCalls.Do("providers", new Advice($"while {device} was looked for", ""), () => new SessionOptions());
        Append(options, device);
    }

    /// <summary>Adds the provider to the options of a session.</summary>
    /// <param name="options">The options.</param>
    /// <param name="device">The device.</param>
    /// <exception cref="DeviceException">It cannot be used.</exception>
    public static void Append(SessionOptions options, CustomDevice device)
    {
        lock (s_lock)
        {
            OrtEpDevice found = Find(device);
            if (!s_started.Contains(device))
            {
                Start(device, found);
                s_started.Add(device);
            }

            NativeCalls.Do("device", new Advice($"while {device} was given to a session", ""), () =>
            {
                options.AppendExecutionProvider(OrtEnv.Instance(), [found], device.ProviderOptions);
                return true;
            });
        }
    }

    private static OrtEpDevice Find(CustomDevice device)
    {
        string? path = device.LibraryPath is { } given ? Register(device, given) : null;
        OrtEpDevice[] found = [.. Listed().Where(listed => listed.EpName == device.Provider)];
        if (device.DeviceIndex < found.Length)
        {
            return found[device.DeviceIndex];
        }

        if (found.Length > 0)
        {
            IEnumerable<string> there = found.Select((listed, i) => string.Create(CultureInfo.InvariantCulture, $"{device.Provider}:{i} ({Kind(listed)})"));
            throw new DeviceException($"{device} was asked for; of devices that the provider lists there are {found.Length}: {string.Join(", ", there)}. "
                + $"Set {nameof(CustomDevice.DeviceIndex)}.");
        }

        throw new DeviceException($"{device} was asked for, and " + (path is null
            ? $"ONNX Runtime has no provider of that name (it has {Names()}). Set {nameof(CustomDevice.Provider)} to one of these, or "
                + $"{nameof(CustomDevice.LibraryPath)} to the library that brings it."
            : s_libraries[path] is { Length: > 0 } names
                ? $"{path} brings no provider of that name: it has {string.Join(", ", names)}. Set {nameof(CustomDevice.Provider)}."
                : $"{path} lists no device: it is a provider, and has found nothing in this machine that it can use. See what its driver says."));
    }

    /// <summary>Registers a library that is not yet.</summary>
    /// <returns>Its full path.</returns>
    private static string Register(CustomDevice device, string given)
    {
        if (!File.Exists(given))
        {
            throw new DeviceException($"{device} was asked for, and there is no file {given}. Set {nameof(CustomDevice.LibraryPath)} to the provider's "
                + "library, or to null where the application has registered it.");
        }

        string path = Path.GetFullPath(given);
        if (s_libraries.ContainsKey(path))
        {
            return path;
        }

        OrtEpDevice[] before = Listed();
        if (before.Any(listed => listed.EpName == device.Provider))
        {
            string? other = s_libraries.FirstOrDefault(library => library.Value.Contains(device.Provider)).Key;
            throw new DeviceException($"{device} was asked for from {path}, and a provider of that name is there already, from "
                + $"{other ?? "the application or the runtime itself"}; a process has one. Set {nameof(CustomDevice.LibraryPath)} to "
                + $"{(other is null ? "null" : "that")}.");
        }

        try
        {
            OrtEnv.Instance().RegisterExecutionProviderLibrary(device.Provider, path);
        }
        catch (OnnxRuntimeException e) when (e.Message.Contains("CreateEpFactories", StringComparison.Ordinal))
        {
            throw new DeviceException($"{device} was asked for, and {path} is a library, but no execution provider: it has no function CreateEpFactories. "
                + $"Set {nameof(CustomDevice.LibraryPath)} to the provider's own library. ONNX Runtime says: {e.Message}", e);
        }
        catch (OnnxRuntimeException e)
        {
            throw new DeviceException($"{device} was asked for, and {path} could not be loaded. It must be an execution provider for this system and for ONNX "
                + $"Runtime {OrtEnv.Instance().GetVersionString()}, and the libraries that it needs must be found. ONNX Runtime says: {e.Message}", e);
        }

        s_libraries[path] = [.. Listed().Select(listed => listed.EpName).Except(before.Select(listed => listed.EpName))];
        return path;
    }

    /// <summary>Creates a session of one node: a provider looks at its options only then.</summary>
    private static void Start(CustomDevice device, OrtEpDevice found)
    {
        try
        {
            _ = NativeCalls.Do("device", new Advice($"while {device} was opened", ""), () =>
            {
                using SessionOptions options = new();
                options.LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL;
                options.AppendExecutionProvider(OrtEnv.Instance(), [found], device.ProviderOptions);
                using InferenceSession session = new(DeviceMemory.Zeros(out _).Bytes, options);
                return true;
            });
        }
        catch (MLNetLoraException e) when (e is not NativeMemoryException)
        {
            string given = device.ProviderOptions.Count == 0
                ? $"It may want {nameof(CustomDevice.ProviderOptions)}."
                : $"It was given {string.Join(", ", device.ProviderOptions.Select(option => $"{option.Key} = {option.Value}"))} "
                    + $"({nameof(CustomDevice.ProviderOptions)}).";
            throw new DeviceException($"{device} was asked for, and its provider does not start. {given} {e.Message}", e);
        }
    }

    private static OrtEpDevice[] Listed() =>
        NativeCalls.Do("providers", new Advice("while its providers were listed", ""), () => OrtEnv.Instance().GetEpDevices().ToArray());

    private static string Names() => string.Join(", ", Listed().Select(listed => listed.EpName).Distinct());

    private static string Kind(OrtEpDevice listed) => $"{listed.HardwareDevice.Type} {listed.HardwareDevice.Vendor}".Trim();
}
