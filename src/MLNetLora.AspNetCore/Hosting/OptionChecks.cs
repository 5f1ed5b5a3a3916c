using Microsoft.Extensions.Options;
using MLNetLora.Checkpoints;

namespace MLNetLora.AspNetCore;

/// <summary>What is wrong with options is said when the application starts, all of it at once.</summary>
internal sealed class ServingOptionsCheck : IValidateOptions<ServingOptions>
{
    private static readonly TimeSpan s_longest = TimeSpan.FromDays(1);

    /// <inheritdoc/>
    public ValidateOptionsResult Validate(string? name, ServingOptions options)
    {
        Faults faults = new();
        faults.Unless(options.MaximumConcurrentRequests >= 1, nameof(options.MaximumConcurrentRequests), options.MaximumConcurrentRequests, "1 or more");
        faults.Unless(options.MaximumQueuedRequests >= 0, nameof(options.MaximumQueuedRequests), options.MaximumQueuedRequests, "0 or more");
        faults.Unless(options.MaximumRequestBytes >= 1, nameof(options.MaximumRequestBytes), options.MaximumRequestBytes, "1 or more");
        long leastBytes = Math.Max(options.MaximumRequestBytes, BodyMemory.LeastBytes);
        faults.Unless(options.MaximumBodyBytes >= leastBytes, nameof(options.MaximumBodyBytes), options.MaximumBodyBytes,
            $"at least {leastBytes}, for one request of {nameof(options.MaximumRequestBytes)}");
        RequireTime(options.QueueTimeout, nameof(options.QueueTimeout));
        RequireTime(options.RequestTimeout, nameof(options.RequestTimeout));
        RequireDrain(options.DrainDelay, nameof(options.DrainDelay));
        RequireDrain(options.DrainTimeout, nameof(options.DrainTimeout));
        RequireKeys(options.ApiKeys, options.ApiKeyFile, nameof(options.ApiKeys), nameof(options.ApiKeyFile));
        RequireKeys(options.AdminKeys, options.AdminKeyFile, nameof(options.AdminKeys), nameof(options.AdminKeyFile));
        return faults.Result();

        void RequireTime(TimeSpan time, string option) =>
            faults.Unless(time > TimeSpan.Zero && time <= s_longest, option, time, "above 0 and at most a day");

        void RequireDrain(TimeSpan time, string option) =>
            faults.Unless(time >= TimeSpan.Zero && time <= s_longest, option, time, "between 0 and a day");

        void RequireKeys(IList<string> keys, string? file, string option, string fileOption)
        {
            if (keys.Any(string.IsNullOrWhiteSpace))
            {
                faults.Add($"{option} holds an empty key, which everybody has. Remove it.");
            }

            if (file is not null && string.IsNullOrWhiteSpace(file))
            {
                faults.Add($"{fileOption} is empty. Name the file that has the keys, or leave the option out.");
            }
            else if (file is not null)
            {
                faults.Catch(() => ApiKeys.Require(file));
            }
        }
    }
}

/// <summary>The same of a served model.</summary>
internal sealed class ServedModelOptionsCheck : IValidateOptions<ServedModelOptions>
{
    /// <inheritdoc/>
    public ValidateOptionsResult Validate(string? name, ServedModelOptions options)
    {
        Faults faults = new($"Model '{name}': ");
        if (ModelName.Fault(name ?? "") is { } fault)
        {
            faults.Add($"the name {fault}.");
        }

        if (string.IsNullOrWhiteSpace(options.ModelPath))
        {
            faults.Add($"{nameof(options.ModelPath)} is not set. Give the folder of a checkpoint, or a hub id such as Qwen/Qwen2.5-0.5B-Instruct.");
        }
        else if (!options.DownloadModel || !ModelFolder.IsHubId(options.ModelPath))
        {
            faults.Catch(() => ModelFolder.Find(options.ModelPath));
        }

        faults.Catch(() => Require.Defined(options.Precision, nameof(options.Precision)));
        faults.Catch(() => Require.Threads(options.Threads, nameof(options.Threads)));
        faults.Catch(() => options.Device.Validate());
        faults.Catch(() => options.Engine(null).Validate());
        faults.Unless(options.MaximumUnsharedAdapters >= 0, nameof(options.MaximumUnsharedAdapters), options.MaximumUnsharedAdapters, "0 or more");
        if (options.AdapterModules.Any(string.IsNullOrWhiteSpace))
        {
            faults.Add($"{nameof(options.AdapterModules)} holds an empty name; name layers such as q_proj, or all-linear.");
        }

        foreach ((string adapter, string path) in options.Adapters)
        {
            if ((adapter == name ? "is that of the base" : ModelName.Fault(adapter)) is { } wrong)
            {
                faults.Add($"the adapter name '{adapter}' {wrong}.");
            }

            RequireFolder(path, $"{nameof(options.Adapters)}:{adapter}");
        }

        RequireFolder(options.WatchFolder, nameof(options.WatchFolder));
        RequireFolder(options.AdapterRoot, nameof(options.AdapterRoot));
        Times.Require(faults, options.WatchPeriod, nameof(options.WatchPeriod));
        faults.Unless(
            options.MaximumAdapters >= options.Adapters.Count,
            nameof(options.MaximumAdapters),
            options.MaximumAdapters,
            $"at least {options.Adapters.Count}, the number of {nameof(options.Adapters)}");
        return faults.Result();

        void RequireFolder(string? path, string option)
        {
            if (path is not null && !Directory.Exists(path))
            {
                faults.Add($"{option} is '{path}', and there is no such folder.");
            }
        }
    }
}

/// <summary>The same of a model file.</summary>
internal sealed class ModelFileOptionsCheck : IValidateOptions<ModelFileOptions>
{
    /// <inheritdoc/>
    public ValidateOptionsResult Validate(string? name, ModelFileOptions options)
    {
        Faults faults = new($"Model file '{name}': ");
        if (!File.Exists(options.Path))
        {
            faults.Add($"{nameof(options.Path)} is '{options.Path}', and there is no such file.");
        }

        Times.Require(faults, options.WatchPeriod, nameof(options.WatchPeriod));
        return faults.Result();
    }
}

/// <summary>Periods in which something is looked at.</summary>
internal static class Times
{
    private static readonly TimeSpan s_shortest = TimeSpan.FromMilliseconds(10);
    private static readonly TimeSpan s_longest = TimeSpan.FromDays(1);

    public static void Require(Faults faults, TimeSpan period, string option) =>
        faults.Unless(period >= s_shortest && period <= s_longest, option, period, "between 10 ms and a day");
}

/// <summary>What is wrong with options, in sentences.</summary>
/// <param name="prefix">Stands before each.</param>
internal sealed class Faults(string prefix = "")
{
    private readonly List<string> _sentences = [];

    public void Add(string sentence) => _sentences.Add(prefix + sentence);

    public void Unless(bool holds, string option, object value, string allowed) => Catch(() => Require.That(holds, option, value, allowed));

    public void Catch(Action check)
    {
        try
        {
            check();
        }
        catch (MLNetLoraException e)
        {
            Add(e.Message);
        }
    }

    public ValidateOptionsResult Result() => _sentences.Count == 0 ? ValidateOptionsResult.Success : ValidateOptionsResult.Fail(_sentences);
}
