using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;

namespace MLNetLora.AspNetCore;

/// <summary>Loads what is served in the background, and ends it in order: not ready, nothing new, what is under way, an error for the rest.</summary>
internal sealed class ServingHost : IHostedLifecycleService, IDisposable
{
    private static readonly TimeSpan s_afterCancelling = TimeSpan.FromSeconds(3); // for the error to reach the client

    private readonly ServingOptions _options;
    private readonly HostServices _services;
    private readonly ApiKeys _keys;
    private readonly IHostApplicationLifetime _lifetime;
    private readonly IServedComponent[] _components;
    private readonly CancellationTokenSource _end = new();
    private readonly TaskCompletionSource _started = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Task _run = Task.CompletedTask;

    public ServingHost(
        IEnumerable<RegisteredModel> models,
        IEnumerable<RegisteredModelFile> files,
        IServiceProvider provider,
        IOptionsMonitor<ServedModelOptions> modelOptions,
        IOptions<ServingOptions> options,
        HostServices services,
        ApiKeys keys,
        IHostApplicationLifetime lifetime)
    {
        _options = options.Value;
        _services = services;
        _keys = keys;
        _lifetime = lifetime;
        Models = [.. models.Select(model => new ModelHost(model.Name, modelOptions.Get(model.Name), services))];
        _components = [.. Models, .. files.Select(file => provider.GetRequiredKeyedService<ServedModelFile>(file.Name))];
    }

    /// <summary>The base models.</summary>
    public IReadOnlyList<ModelHost> Models { get; }

    /// <inheritdoc/>
    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task StartAsync(CancellationToken cancellationToken)
    {
        if (!_keys.AreNeeded)
        {
            HostLog.NoKeys(_services.Log);
        }

        foreach ((int i, IServedComponent component) in _components.Index())
        {
            component.Announce(i == 0 ? null : _components[i - 1].Name);
        }

        _lifetime.ApplicationStarted.Register(_started.SetResult);
        _run = Task.Run(RunAsync, CancellationToken.None);
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    /// <remarks>The server still listens here: it is stopped after this.</remarks>
    public async Task StoppingAsync(CancellationToken cancellationToken)
    {
        ServingState state = _services.State;
        state.Phase = ServingPhase.Leaving;
        HostLog.Leaving(_services.Log, _options.DrainDelay.TotalSeconds);
        await WithinAsync(Task.Delay(Timeout.InfiniteTimeSpan, cancellationToken), _options.DrainDelay, cancellationToken).ConfigureAwait(false);
        state.Phase = ServingPhase.Draining;
        HostLog.Draining(_services.Log, state.UnderWay);
        if (!await WithinAsync(state.WhenIdle(), _options.DrainTimeout, cancellationToken).ConfigureAwait(false))
        {
            HostLog.Cancelled(_services.Log, state.CancelAll());
            await WithinAsync(state.WhenIdle(), s_afterCancelling, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public async Task StopAsync(CancellationToken cancellationToken)
    {
        await _end.CancelAsync().ConfigureAwait(false);
        await _run.WaitAsync(cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    /// <inheritdoc/>
    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public void Dispose() => _end.Dispose();

    [SuppressMessage("Design", "CA1031:Do not catch general exception types", Justification = "Whatever it is, the service cannot answer.")]
    private async Task RunAsync()
    {
        LoadProgress progress = new(_services);
        foreach ((int i, IServedComponent component) in _components.Index())
        {
            try
            {
                await progress.RunAsync(component, i + 1, _components.Length, _end.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (_end.IsCancellationRequested)
            {
                return;
            }
            catch (Exception e)
            {
                HostLog.LoadFailed(_services.Log, e, component.Name);
                Environment.ExitCode = 1;
                await _started.Task.WaitAsync(_end.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing); // an application that starts cannot be ended
                _lifetime.StopApplication();
                return;
            }
        }

        await Task.WhenAll(_components.Select(component => component.WatchAsync(_end.Token))).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    /// <summary>Waits for a task for some time.</summary>
    /// <returns>Whether it has ended.</returns>
    private async Task<bool> WithinAsync(Task task, TimeSpan time, CancellationToken cancellation)
    {
        try
        {
            await task.WaitAsync(time, _services.Time, cancellation).ConfigureAwait(false);
            return true;
        }
        catch (Exception e) when (e is TimeoutException or OperationCanceledException)
        {
            return task.IsCompletedSuccessfully;
        }
    }
}
