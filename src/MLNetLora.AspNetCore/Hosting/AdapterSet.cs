using Microsoft.Extensions.Logging;
using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Runtime;

namespace MLNetLora.AspNetCore;

/// <summary>Who has loaded an adapter, and may put another in its place or unload it.</summary>
internal enum AdapterSource
{
    /// <summary>The options.</summary>
    Options,

    /// <summary>The watched folder.</summary>
    Folder,

    /// <summary>A request with the admin key.</summary>
    Request,
}

/// <summary>Why an adapter was not loaded.</summary>
/// <param name="Error">In OpenAI's form.</param>
/// <param name="MayPass">Whether the same files may be taken later.</param>
internal sealed record AdapterRefusal(ServingError Error, bool MayPass);

/// <summary>An adapter would need weights of its own, and no more such may be loaded.</summary>
/// <param name="message">Why, and how many there are.</param>
/// <param name="mayPass">Whether it may be taken when another one has gone.</param>
internal sealed class UnsharedAdapterException(string message, bool mayPass) : MLNetLoraException(message)
{
    /// <summary>Whether it may be taken when another one has gone.</summary>
    public bool MayPass => mayPass;
}

/// <summary>
/// The adapters of one base. One is read and looked at whole and has answered once before it takes a place, by one swap; what it replaces is freed after its
/// last request. One change at a time.
/// </summary>
/// <param name="baseName">The base's name.</param>
/// <param name="checkpoint">The base.</param>
/// <param name="attach">Makes what answers with an adapter of a name.</param>
/// <param name="most">How many there may be.</param>
/// <param name="services">Where they are published, counted and logged.</param>
internal sealed class AdapterSet(string baseName, Checkpoint checkpoint, Func<string, LoraAdapter, TextGenerator> attach, int most, HostServices services)
{
    private const int RetryWithoutMemory = 10;

    private readonly Dictionary<string, AdapterSource> _loaded = new(StringComparer.Ordinal);

    /// <summary>The names that a source has loaded.</summary>
    public IReadOnlyList<string> Loaded(AdapterSource source)
    {
        lock (_loaded)
        {
            return [.. _loaded.Where(adapter => adapter.Value == source).Select(adapter => adapter.Key)];
        }
    }

    /// <summary>Loads an adapter.</summary>
    /// <param name="name">Under which it is asked for.</param>
    /// <param name="folder">Where it is; links resolved by the caller, where they may change.</param>
    /// <param name="source">Who loads it.</param>
    /// <param name="mayReplace">Whether one of the same name and source may be there.</param>
    /// <param name="isSame">Asked before it is published: whether what was read is still what is there.</param>
    /// <param name="cancellation">Ends it with an <see cref="OperationCanceledException"/>.</param>
    /// <returns>Null where it is served now, or why it is not; then nothing has changed.</returns>
    public async Task<AdapterRefusal?> LoadAsync(
        string name, string folder, AdapterSource source, bool mayReplace, Func<bool>? isSame, CancellationToken cancellation)
    {
        await services.Turn.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            AdapterRefusal? refusal = Conflict(name, source, mayReplace)
                ?? await Task.Run(() => Load(name, folder, source, isSame, cancellation), cancellation).ConfigureAwait(false);
            if (refusal is not null && source != AdapterSource.Folder) // which tries again and again, and counts itself
            {
                services.Metrics.AdapterFailed(baseName);
            }

            return refusal;
        }
        finally
        {
            services.Turn.Release();
        }
    }

    /// <summary>Unloads an adapter; requests that have it end with it.</summary>
    /// <returns>Null where it is gone, or why it is not.</returns>
    public async Task<ServingError?> UnloadAsync(string name, AdapterSource source, CancellationToken cancellation)
    {
        await services.Turn.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            lock (_loaded)
            {
                if (!_loaded.TryGetValue(name, out AdapterSource owner))
                {
                    return ServingError.NotFound($"No adapter '{name}' is loaded.", "lora_name", "adapter_not_found");
                }

                if (owner != source)
                {
                    string message = $"The adapter '{name}' was loaded from {Words(owner)}, which has to give it up.";
                    return ServingError.Invalid(message, "lora_name", "adapter_in_use");
                }

                _loaded.Remove(name);
            }

            services.Registry.Remove(name);
            HostLog.Unloaded(services.Log, name, baseName);
            return null;
        }
        finally
        {
            services.Turn.Release();
        }
    }

    private AdapterRefusal? Conflict(string name, AdapterSource source, bool mayReplace)
    {
        if (ModelName.Fault(name) is { } fault)
        {
            return new AdapterRefusal(ServingError.Invalid($"The adapter's name {fault}.", "lora_name", "invalid_value"), MayPass: false);
        }

        lock (_loaded)
        {
            if (_loaded.TryGetValue(name, out AdapterSource owner))
            {
                return (owner == source, mayReplace) switch
                {
                    (true, true) => null,
                    (true, false) => Taken($"An adapter '{name}' is loaded already; to put another in its place, set load_inplace to true."),
                    _ => Taken($"An adapter '{name}' was loaded from {Words(owner)}, and stays until that gives it up."),
                };
            }

            if (services.BaseNames.Contains(name) || services.Registry.Models.Any(model => model.Name == name))
            {
                return Taken($"The name '{name}' belongs to another model.");
            }

            return _loaded.Count < most ? null : new AdapterRefusal(
                ServingError.Invalid($"{_loaded.Count} adapters are loaded, the most that {nameof(ServedModelOptions.MaximumAdapters)} allows. Unload one.",
                    "lora_name", "too_many_adapters"),
                MayPass: true);
        }

        static AdapterRefusal Taken(string message) => new(ServingError.Invalid(message, "lora_name", "adapter_exists"), MayPass: true);
    }

    private AdapterRefusal? Load(string name, string folder, AdapterSource source, Func<bool>? isSame, CancellationToken cancellation)
    {
        TextGenerator? generator = null;
        try
        {
            string stamp = AdapterFolder.Stamp(folder, out _);
            LoraAdapter adapter = AdapterFolder.Read(folder, checkpoint);
            foreach (string warning in adapter.Warnings)
            {
                HostLog.AdapterWarning(services.Log, name, warning);
            }

            generator = attach(name, adapter);
            WarmUp.Answer(generator, cancellation);
            if (isSame?.Invoke() == false || AdapterFolder.Stamp(folder, out _) != stamp)
            {
                return new AdapterRefusal(ServingError.Invalid("The adapter's files changed while they were read."), MayPass: true);
            }

            services.Registry.Set(new ServedModel(name, baseName, services.Time.GetUtcNow()), generator);
            string bytes = MachineMemory.Gigabytes(generator.Model.WeightBytes);
            generator = null;
            lock (_loaded)
            {
                _loaded[name] = source;
            }

            services.Metrics.AdapterLoaded(name);
            HostLog.Loaded(services.Log, name, baseName, folder, bytes);
            return null;
        }
        catch (NativeMemoryException e)
        {
            return new AdapterRefusal(ServingError.Unavailable(e.Message, "out_of_memory", RetryWithoutMemory), MayPass: true);
        }
        catch (UnsharedAdapterException e)
        {
            return new AdapterRefusal(ServingError.Invalid(e.Message, "lora_path", "too_many_adapters"), e.MayPass);
        }
        catch (MLNetLoraException e)
        {
            return new AdapterRefusal(ServingError.Invalid(e.Message, "lora_path", "invalid_adapter"), e.InnerException is IOException);
        }
        finally
        {
            generator?.Dispose();
        }
    }

    private static string Words(AdapterSource source) => source switch
    {
        AdapterSource.Options => "the configuration",
        AdapterSource.Folder => "the watched folder",
        _ => "a request",
    };
}

/// <summary>A first answer, which compiles, allocates and shows whether there can be others.</summary>
internal static class WarmUp
{
    /// <summary>Lets a model answer with one token.</summary>
    /// <exception cref="MLNetLoraException">It cannot.</exception>
    public static void Answer(TextGenerator generator, CancellationToken cancellation)
    {
        GenerationOptions options = new() { MaximumNewTokens = 1, Temperature = 0 };
        if (generator.Generate([new Text.InstructionRow("Hello")], options, null, cancellation)[0].Error is { } error)
        {
            throw error;
        }
    }
}
