using System.Globalization;

namespace MLNetLora.Runtime;

/// <summary>
/// A device of any execution provider of ONNX Runtime that comes as a library of its own (ONNX Runtime's name: plugin execution provider). Graphs are the
/// processor's, in 32-bit floats: the provider computes what it has kernels for, the processor the rest, and the runtime copies between them. Parameters,
/// states and caches stay in the process's memory.
/// </summary>
/// <remarks>What a library does is not limited: its code runs in this process. Take it from where applications come from.</remarks>
public sealed record CustomDevice : Device
{
    /// <summary>File of the provider's library, which is registered once in a process; null (default) where the application has registered it
    /// (OrtEnv.RegisterExecutionProviderLibrary), or where the provider is part of the native ONNX Runtime.</summary>
    public string? LibraryPath { get; init; }

    /// <summary>The provider's name, as OrtEnv.GetEpDevices lists it, such as "CudaPluginExecutionProvider"; the library is registered under it.</summary>
    public required string Provider { get; init; }

    /// <summary>Number of the device among those that the provider lists. Default 0.</summary>
    public int DeviceIndex { get; init; }

    /// <summary>Options of the provider, by its own names; one that does not know a name may pass over it. None by default.</summary>
    public IReadOnlyDictionary<string, string> ProviderOptions
    {
        get;
        init => field = new Dictionary<string, string>(value ?? throw new OptionException($"{nameof(ProviderOptions)} is null; it may be empty."));
    }
    = new Dictionary<string, string>();

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Provider}:{DeviceIndex}");

    /// <summary>Equal where all options are.</summary>
    public bool Equals(CustomDevice? other) => other is not null && LibraryPath == other.LibraryPath && Provider == other.Provider
        && DeviceIndex == other.DeviceIndex && ProviderOptions.Count == other.ProviderOptions.Count && ProviderOptions.All(other.ProviderOptions.Contains);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(LibraryPath, Provider, DeviceIndex, ProviderOptions.Count);

    /// <inheritdoc/>
    internal override void Validate()
    {
        Require.That(!string.IsNullOrWhiteSpace(Provider), nameof(Provider), Quoted(Provider), "the name of an execution provider");
        Require.That(LibraryPath is null || !string.IsNullOrWhiteSpace(LibraryPath), nameof(LibraryPath), Quoted(LibraryPath), "a file, or null");
        Require.That(DeviceIndex >= 0, nameof(DeviceIndex), DeviceIndex, "0 or more");
        foreach ((string name, string? value) in ProviderOptions)
        {
            Require.That(!string.IsNullOrWhiteSpace(name), $"A name in {nameof(ProviderOptions)}", Quoted(name), "one of the provider's");
            Require.That(value is not null, $"{name} in {nameof(ProviderOptions)}", value, "a text, which may be empty");
        }
    }

    private static string? Quoted(string? text) => text is null ? null : $"'{text}'";
}
