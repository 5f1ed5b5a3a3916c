namespace MLNetLora.AspNetCore;

/// <summary>Where the service is between its start and its end.</summary>
internal enum ServingPhase
{
    /// <summary>Requests are taken.</summary>
    Open,

    /// <summary>It was told to end: it says that it is not ready, and still takes what comes.</summary>
    Leaving,

    /// <summary>Nothing new is taken; what is under way ends.</summary>
    Draining,
}

/// <summary>Something that the service consists of, and is not as it should be.</summary>
/// <param name="Component">A model, an adapter, a folder.</param>
/// <param name="Reason">In words.</param>
/// <param name="IsMissing">Whether the service cannot answer without it; else it answers, but is degraded.</param>
internal sealed record ServingIssue(string Component, string Reason, bool IsMissing);

/// <summary>Whether the service takes requests, and if not, why; and who is being answered. Thread-safe.</summary>
internal sealed class ServingState
{
    private const int RetryWhileLoading = 5;
    private const int RetryWhileDraining = 1; // another replica answers

    private readonly Lock _lock = new();
    private readonly SortedDictionary<string, ServingIssue> _issues = new(StringComparer.Ordinal);
    private readonly HashSet<ServingRequest> _requests = [];
    private ServingPhase _phase;
    private TaskCompletionSource? _idle;

    /// <summary>Where the service is between its start and its end.</summary>
    public ServingPhase Phase
    {
        get
        {
            lock (_lock)
            {
                return _phase;
            }
        }

        set
        {
            lock (_lock)
            {
                _phase = value;
            }
        }
    }

    /// <summary>Requests that are under way.</summary>
    public int UnderWay
    {
        get
        {
            lock (_lock)
            {
                return _requests.Count;
            }
        }
    }

    /// <summary>What is not as it should be, by name.</summary>
    public IReadOnlyList<ServingIssue> Issues
    {
        get
        {
            lock (_lock)
            {
                return [.. _issues.Values];
            }
        }
    }

    /// <summary>Remembers that something is not as it should be, in the place of what was said of it before.</summary>
    /// <returns>Whether something else was said, or nothing.</returns>
    public bool Report(ServingIssue issue)
    {
        lock (_lock)
        {
            bool isNew = !_issues.TryGetValue(issue.Component, out ServingIssue? before) || before != issue;
            _issues[issue.Component] = issue;
            return isNew;
        }
    }

    /// <summary>All is well with a component.</summary>
    public void Clear(string component)
    {
        lock (_lock)
        {
            _issues.Remove(component);
        }
    }

    /// <summary>Takes a request, which is under way until <see cref="End"/>.</summary>
    /// <param name="request">It.</param>
    /// <param name="full">Why it is not taken even where the service is ready; null where it is.</param>
    /// <returns>Null, or why it is not taken.</returns>
    public ServingError? Begin(ServingRequest request, ServingError? full)
    {
        lock (_lock)
        {
            if (_phase == ServingPhase.Draining)
            {
                return ServingError.Unavailable("The service ends and takes no new requests.", "draining", RetryWhileDraining);
            }

            if (_issues.Values.FirstOrDefault(issue => issue.IsMissing) is { } missing)
            {
                return ServingError.Unavailable($"The service is not ready: {missing.Component}: {missing.Reason}", "loading", RetryWhileLoading);
            }

            if (full is null)
            {
                _requests.Add(request);
            }

            return full;
        }
    }

    /// <summary>A request has ended.</summary>
    public void End(ServingRequest request)
    {
        lock (_lock)
        {
            _requests.Remove(request);
            if (_requests.Count == 0)
            {
                _idle?.TrySetResult();
            }
        }
    }

    /// <summary>Ends when no request is under way.</summary>
    public Task WhenIdle()
    {
        lock (_lock)
        {
            if (_requests.Count == 0)
            {
                return Task.CompletedTask;
            }

            if (_idle is null or { Task.IsCompleted: true })
            {
                _idle = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            }

            return _idle.Task;
        }
    }

    /// <summary>Ends every request that is under way.</summary>
    /// <returns>How many.</returns>
    public int CancelAll()
    {
        ServingRequest[] requests;
        lock (_lock)
        {
            requests = [.. _requests];
        }

        Array.ForEach(requests, request => request.Shutdown());
        return requests.Length;
    }
}
