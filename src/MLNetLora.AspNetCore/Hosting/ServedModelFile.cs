using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Security.Cryptography;
using Microsoft.ML;
using MLNetLora.Checkpoints;
using MLNetLora.TextGeneration;

namespace MLNetLora.AspNetCore;

/// <summary>
/// The model of a zip, the newest good one. A transformer is thread-safe and large: all requests share it, where ML.NET pools prediction engines. Registered by
/// AddMLNetLoraModelFile, with its name as the key and, the first one, without a key.
/// </summary>
public sealed class ServedModelFile : IServedComponent, IDisposable
{
    private readonly string _name;
    private readonly ModelFileOptions _options;
    private readonly HostServices _services;
    private readonly Lock _lock = new();
    private readonly TaskCompletionSource _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Shared<QwenLoraTransformer>? _current;
    private string? _stamp; // of the last look
    private string? _hash; // of what is served
    private bool _isPending;
    private int _looksUntilRetry; // of what there was no memory for; 0 for nothing

    internal ServedModelFile(string name, ModelFileOptions options, HostServices services)
    {
        _name = name;
        _options = options;
        _services = services;
    }

    string IServedComponent.Name => _name;

    private string Component => $"model file {_name}";

    /// <summary>Asks the model. A request keeps the model that it began with, which is freed after its last request.</summary>
    /// <param name="use">Asks; the transformer is not to be kept or disposed.</param>
    /// <param name="cancellationToken">Ends the wait for the model's loading.</param>
    /// <exception cref="ObjectDisposedException">The application has ended.</exception>
    public async Task<T> UseAsync<T>(Func<QwenLoraTransformer, Task<T>> use, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(use);
        await _ready.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
        Shared<QwenLoraTransformer> model;
        lock (_lock)
        {
            model = _current ?? throw new ObjectDisposedException(nameof(ServedModelFile));
            model.Take();
        }

        try
        {
            return await use(model.Value).ConfigureAwait(false);
        }
        finally
        {
            model.Release();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _ready.TrySetCanceled();
        Swap(null);
    }

    string IServedComponent.Step => "the model is being loaded";

    void IServedComponent.Announce(string? before) => _services.State.Report(new ServingIssue(
        Component, before is null ? "the model is being loaded" : $"the model is loaded when {before} has been", IsMissing: true));

    async Task IServedComponent.LoadAsync(CancellationToken cancellation)
    {
        try
        {
            ((IServedComponent)this).Announce(null);
            _stamp = Stamp();
            string hash = Hash();
            Swap(await Task.Run(() => Open(cancellation), cancellation).ConfigureAwait(false));
            Accept(hash);
            _ready.TrySetResult();
        }
        catch (Exception e)
        {
            _ready.TrySetException(e);
            _ = _ready.Task.Exception;
            throw;
        }
    }

    async Task IServedComponent.WatchAsync(CancellationToken cancellation)
    {
        using PeriodicTimer timer = new(_options.WatchPeriod, _services.Time);
        while (await timer.WaitForNextTickAsync(cancellation).ConfigureAwait(false))
        {
            await LookAsync(cancellation).ConfigureAwait(false);
        }
    }

    /// <summary>Looks at the file once.</summary>
    /// <param name="cancellation">Ends the loading of a new one.</param>
    [SuppressMessage("Design", "CA1031:Do not catch general exception types", Justification = "Whatever is wrong with the new file, the old model answers on.")]
    internal async Task LookAsync(CancellationToken cancellation)
    {
        try
        {
            string stamp = Stamp();
            if (stamp != _stamp)
            {
                (_stamp, _isPending, _looksUntilRetry) = (stamp, true, 0);
                return;
            }

            if (!_isPending && (_looksUntilRetry == 0 || --_looksUntilRetry > 0))
            {
                return;
            }

            _isPending = false;
            string hash = Hash();
            if (hash == _hash)
            {
                Accept(hash);
                return;
            }

            QwenLoraTransformer model = await Task.Run(() => Open(cancellation), cancellation).ConfigureAwait(false);
            if (Stamp() != stamp)
            {
                model.Dispose(); // it changed while it was read, and the next looks see another one
                return;
            }

            Swap(model);
            Accept(hash);
        }
        catch (Exception e) when (!cancellation.IsCancellationRequested)
        {
            if (e is IOException or UnauthorizedAccessException)
            {
                _stamp = null; // what can be looked at again is taken for another one, so that it is known that all is well
            }

            if (e is NativeMemoryException)
            {
                _looksUntilRetry = AdapterWatcher.LooksBetweenTries;
            }

            if (_services.State.Report(new ServingIssue(Component, $"{e.Message.TrimEnd('.')}. The one that was loaded before answers on.", IsMissing: false)))
            {
                HostLog.FileRefused(_services.Log, _options.Path, e.Message);
                _services.Metrics.FileLoaded(_name, wasGood: false);
            }
        }
    }

    private void Accept(string hash)
    {
        bool isNew = hash != _hash;
        _hash = hash;
        _services.State.Clear(Component);
        if (isNew)
        {
            _services.Metrics.FileLoaded(_name, wasGood: true);
            HostLog.FileLoaded(_services.Log, _options.Path);
        }
    }

    /// <summary>Loads the model and lets it answer with one token.</summary>
    private QwenLoraTransformer Open(CancellationToken cancellation)
    {
        QwenLoraTransformer model = new MLContext().TextGeneration.Load(_options.Path, _options.BaseModel, _options.Change);
        try
        {
            Inference.GenerationOptions one = model.Generation;
            one.MaximumNewTokens = 1;
            model.Generate("Hello", null, one, cancellation);
            return model;
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    private void Swap(QwenLoraTransformer? model)
    {
        Shared<QwenLoraTransformer>? old;
        lock (_lock)
        {
            (old, _current) = (_current, model is null ? null : new Shared<QwenLoraTransformer>(model));
        }

        old?.Release();
    }

    private string Stamp()
    {
        if (!File.Exists(_options.Path))
        {
            throw new FileNotFoundException($"{_options.Path} is gone.");
        }

        FileInfo file = new(RealPath.Of(_options.Path));
        return string.Create(CultureInfo.InvariantCulture, $"{file.FullName}|{file.Length}|{file.LastWriteTimeUtc.Ticks}");
    }

    private string Hash()
    {
        using FileStream stream = File.OpenRead(_options.Path);
        return Convert.ToHexString(SHA256.HashData(stream));
    }
}
