using MLNetLora.Inference;

namespace MLNetLora.AspNetCore;

/// <summary>A model that requests ask for by its name.</summary>
/// <param name="Name">The base's, or an adapter's.</param>
/// <param name="Parent">The base that an adapter is for; null for a base.</param>
/// <param name="Created">When it was loaded.</param>
internal sealed record ServedModel(string Name, string? Parent, DateTimeOffset Created);

/// <summary>The models that are served now. One that is replaced or removed is freed after its last request. Thread-safe.</summary>
internal sealed class ModelRegistry : IDisposable
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, Entry> _models = new(StringComparer.Ordinal);

    /// <summary>What is served, by name.</summary>
    public IReadOnlyList<ServedModel> Models
    {
        get
        {
            lock (_lock)
            {
                return [.. _models.Values.Select(entry => entry.Model).OrderBy(model => model.Name, StringComparer.Ordinal)];
            }
        }
    }

    /// <summary>The models that have an engine of their own: bases, and adapters with weights of their own.</summary>
    /// <param name="read">Reads something of each; called under a lock, and not of one that is freed.</param>
    public IReadOnlyList<T> OfEngines<T>(Func<ServedModel, TextGenerator, T> read)
    {
        lock (_lock)
        {
            return [.. _models.Values.Where(entry => !entry.Generator.Model.IsAttached).Select(entry => read(entry.Model, entry.Generator))];
        }
    }

    /// <summary>Serves a model from now on, in the place of one of the same name.</summary>
    /// <param name="model">Its name.</param>
    /// <param name="generator">What answers; the registry's to dispose.</param>
    public void Set(ServedModel model, TextGenerator generator)
    {
        Entry? old;
        lock (_lock)
        {
            _models.TryGetValue(model.Name, out old);
            _models[model.Name] = new Entry(model, generator);
        }

        old?.Release();
    }

    /// <summary>Serves a model no longer; requests under way end with it.</summary>
    /// <returns>Whether there was one of the name.</returns>
    public bool Remove(string name)
    {
        Entry? old;
        lock (_lock)
        {
            _models.Remove(name, out old);
        }

        old?.Release();
        return old is not null;
    }

    /// <summary>A model for one request.</summary>
    /// <returns>It, until it is disposed; null where none of the name is served.</returns>
    public ModelLease? Lease(string name)
    {
        lock (_lock)
        {
            if (!_models.TryGetValue(name, out Entry? entry))
            {
                return null;
            }

            entry.Take();
            return new ModelLease(entry.Model, entry.Generator, entry.Release);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Entry[] all;
        lock (_lock)
        {
            all = [.. _models.Values];
            _models.Clear();
        }

        Array.ForEach(all, entry => entry.Release());
    }

    /// <summary>A model and how many use it: the registry itself, and requests.</summary>
    private sealed class Entry(ServedModel model, TextGenerator generator)
    {
        private int _users = 1;

        public ServedModel Model => model;

        public TextGenerator Generator => generator;

        public void Take() => Interlocked.Increment(ref _users); // under the registry's lock, where the registry is a user

        public void Release()
        {
            if (Interlocked.Decrement(ref _users) == 0)
            {
                generator.Dispose();
            }
        }
    }
}

/// <summary>A model that a request uses until this is disposed.</summary>
/// <param name="model">Its name.</param>
/// <param name="generator">What answers.</param>
/// <param name="release">Called once.</param>
internal sealed class ModelLease(ServedModel model, TextGenerator generator, Action release) : IDisposable
{
    private Action? _release = release;

    /// <summary>What was asked for.</summary>
    public ServedModel Model => model;

    /// <summary>What answers.</summary>
    public TextGenerator Generator => generator;

    /// <inheritdoc/>
    public void Dispose() => Interlocked.Exchange(ref _release, null)?.Invoke();
}
