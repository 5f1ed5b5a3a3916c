using System.Net;
using System.Net.Http.Headers;

namespace MLNetLora.Checkpoints;

/// <summary>
/// Brings one blob into the cache. A large file comes in parts over several connections; parts that arrive early wait in memory, so that the file on the
/// disk is at any time the beginning of the whole.
/// </summary>
internal sealed class BlobDownload(HubClient client, HubRepository repository, HubFile file, string revision, HubDownloadOptions options, HubMeter meter)
{
    private const int BlockBytes = 128 << 10;

    private readonly int _partBytes = options.Environment.PartBytes;
    private Uri? _location; // where the hub leads to, for a while

    /// <summary>Brings the blob, unless it is there; the caller holds its lock.</summary>
    /// <returns>Whether it has come now.</returns>
    public async Task<bool> RunAsync(CancellationToken cancellation)
    {
        if (repository.HasBlob(file))
        {
            meter.Add(file.Path, file.Size, fromNetwork: false);
            return false;
        }

        string path = repository.Incomplete(file.Blob);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        using (BlobFile blob = await BlobFile.OpenAsync(path, file, options.Environment, cancellation).ConfigureAwait(false))
        {
            meter.Add(file.Path, blob.Length, fromNetwork: false);
            await FillAsync(blob, cancellation).ConfigureAwait(false);
            blob.Flush();
        }

        File.Move(path, repository.Blob(file.Blob), overwrite: true);
        return true;
    }

    /// <summary>Fills the file and checks it; what was damaged on the way or before is thrown away and comes once more.</summary>
    private async Task FillAsync(BlobFile blob, CancellationToken cancellation)
    {
        for (bool again = false; ; again = true)
        {
            await LoadAsync(blob, cancellation).ConfigureAwait(false);
            string? hash = blob.Hash();
            if (hash is null || hash == file.Hash)
            {
                return;
            }

            meter.Add(file.Path, -blob.Length, fromNetwork: false);
            blob.Clear();
            string wrong = $"{file.Path} is damaged: it should have the hash {file.Hash} and has {hash}.";
            if (again)
            {
                throw new HubException($"{wrong} It came twice, and was thrown away. Does a proxy or a mirror change files?");
            }

            meter.Tell($"{wrong} It is loaded once more.");
        }
    }

    private async Task LoadAsync(BlobFile blob, CancellationToken cancellation)
    {
        if (options.Connections > 1 && file.Size - blob.Length > _partBytes && await LoadPartsAsync(blob, cancellation).ConfigureAwait(false))
        {
            return;
        }

        await client.RetryAsync(async () =>
        {
            await LoadRestAsync(blob, cancellation).ConfigureAwait(false);
            return true;
        }, cancellation, () => blob.Length).ConfigureAwait(false);
    }

    /// <summary>Loads what is missing in one go. A server that does not know ranges sends everything; what is here already is passed over.</summary>
    private async Task LoadRestAsync(BlobFile blob, CancellationToken cancellation)
    {
        if (blob.Length == file.Size)
        {
            return;
        }

        RangeHeaderValue? range = blob.Length == 0 ? null : new RangeHeaderValue(blob.Length, null);
        using HubAnswer answer = await AskAsync(range, cancellation).ConfigureAwait(false);
        bool isRange = answer.Status == HttpStatusCode.PartialContent;
        RequireLengths(answer, isRange ? blob.Length : 0, file.Size);
        byte[] block = new byte[BlockBytes];
        for (long at = isRange ? blob.Length : 0; ;)
        {
            int read = await answer.ReadAsync(block).ConfigureAwait(false);
            if (read == 0 && at < file.Size)
            {
                throw new PassingException($"{answer.Address.Host} closed the connection after {at} of {file.Size} bytes of {file.Path}.");
            }

            if (read == 0)
            {
                return;
            }

            int known = (int)Math.Min(Math.Max(blob.Length - at, 0), read);
            at += read;
            if (at > file.Size)
            {
                throw TooLong(answer);
            }

            await WriteAsync(blob, block.AsMemory(known, read - known), cancellation).ConfigureAwait(false);
            meter.Add(file.Path, read - known, fromNetwork: true);
        }
    }

    /// <summary>Loads what is missing in parts.</summary>
    /// <returns>False where the server does not send parts; nothing was lost then.</returns>
    private async Task<bool> LoadPartsAsync(BlobFile blob, CancellationToken cancellation)
    {
        using CancellationTokenSource stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        Queue<(Part Part, Task<bool> Task)> parts = [];
        Stack<byte[]> buffers = [];
        long next = blob.Length;
        Start(); // alone: whether the server sends parts, and where the hub leads to, shows in it
        try
        {
            bool sendsParts = await parts.Peek().Task.ConfigureAwait(false);
            while (sendsParts && parts.Count > 0)
            {
                while (parts.Count < options.Connections && next < file.Size)
                {
                    Start();
                }

                sendsParts = await parts.Peek().Task.ConfigureAwait(false);
                if (sendsParts)
                {
                    Part part = parts.Dequeue().Part;
                    await WriteAsync(blob, part.Bytes, cancellation).ConfigureAwait(false);
                    buffers.Push(part.Buffer);
                }
            }

            return sendsParts;
        }
        finally
        {
            await stop.CancelAsync().ConfigureAwait(false);
            await FinishAsync(blob, parts).ConfigureAwait(false);
        }

        void Start()
        {
            Part part = new(next, (int)Math.Min(_partBytes, file.Size - next), buffers.TryPop(out byte[]? buffer) ? buffer : new byte[_partBytes + 1]);
            next += part.Size;
            parts.Enqueue((part, LoadPartAsync(part, stop.Token)));
        }
    }

    /// <summary>After a failure: waits for those that are still under way, and keeps what goes on where the file ends.</summary>
    private async Task FinishAsync(BlobFile blob, Queue<(Part Part, Task<bool> Task)> parts)
    {
        foreach ((Part part, Task<bool> task) in parts)
        {
            await task.ContinueWith(_ => { }, CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default).ConfigureAwait(false);
            if (part.Start != blob.Length)
            {
                meter.Add(file.Path, -part.Bytes.Length, fromNetwork: false);
                continue;
            }

            try
            {
                await WriteAsync(blob, part.Bytes, CancellationToken.None).ConfigureAwait(false);
            }
            catch (HubException)
            {
                // Whatever failed before is told.
            }
        }
    }

    private Task<bool> LoadPartAsync(Part part, CancellationToken cancellation) => client.RetryAsync(async () =>
    {
        RangeHeaderValue range = new(part.Start + part.Filled, part.Start + part.Size - 1);
        using HubAnswer answer = await AskAsync(range, cancellation).ConfigureAwait(false);
        if (answer.Status != HttpStatusCode.PartialContent)
        {
            return false;
        }

        RequireLengths(answer, part.Start + part.Filled, part.Start + part.Size);
        while (true)
        {
            int read = await answer.ReadAsync(part.Free()).ConfigureAwait(false);
            if (read == 0)
            {
                return part.Filled == part.Size ? true : throw new PassingException($"{answer.Address.Host} closed the connection within {file.Path}.");
            }

            if (!part.Take(read))
            {
                throw TooLong(answer);
            }

            meter.Add(file.Path, read, fromNetwork: true);
        }
    }, cancellation, () => part.Filled);

    private async Task<HubAnswer> AskAsync(RangeHeaderValue? range, CancellationToken cancellation)
    {
        Uri hub = client.Address(file, revision);
        Uri? known = _location;
        try
        {
            HubAnswer answer = await client.SendAsync(HttpMethod.Get, known ?? hub, file.Path, range, cancellation).ConfigureAwait(false);
            _location = client.IsHub(answer.Address) ? null : answer.Address;
            return answer;
        }
        catch (HubException e) when (known is not null
            && e.StatusCode is HttpStatusCode.Unauthorized or HttpStatusCode.Forbidden or HttpStatusCode.NotFound or HttpStatusCode.Gone)
        {
            // Such addresses are signed, for an hour or so.
            _location = null;
            return await client.SendAsync(HttpMethod.Get, hub, file.Path, range, cancellation).ConfigureAwait(false);
        }
    }

    /// <summary>Refuses an answer that is not about this file before its gigabytes come.</summary>
    private void RequireLengths(HubAnswer answer, long start, long end)
    {
        ContentRangeHeaderValue? range = answer.Message.Content.Headers.ContentRange;
        bool isPart = answer.Status == HttpStatusCode.PartialContent;
        bool isRight = isPart
            ? range is { Unit: "bytes" } && range.From == start && range.To == end - 1 && (range.Length ?? file.Size) == file.Size
            : answer.Status == HttpStatusCode.OK;
        long? length = answer.Length;
        string? encoding = answer.Header("Content-Encoding");
        if (!isRight || (length ?? end - start) != end - start || encoding is not (null or "identity"))
        {
            throw new HubException($"{answer.Address.Host} sends something else than {file.Path}, which has {file.Size} bytes: "
                + (encoding is not (null or "identity") ? $"it is packed with {HubErrors.Shown(encoding)}"
                    : isPart ? $"Content-Range is '{range}', bytes {start} to {end - 1} were asked for"
                    : $"status {(int)answer.Status} with {length} bytes") + ". Does a proxy or a mirror stand in between?");
        }
    }

    private HubException TooLong(HubAnswer answer) => new($"{answer.Address.Host} sends more than the {file.Size} bytes that {file.Path} has.");

    private async Task WriteAsync(BlobFile blob, ReadOnlyMemory<byte> bytes, CancellationToken cancellation)
    {
        try
        {
            await blob.AppendAsync(bytes, cancellation).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new HubException(FormattableString.Invariant($"{file.Path} cannot be written: {e.Message} {blob.Length} of its {file.Size} bytes are kept in ")
                + $"{blob.Path}. Make room, or say with HF_HOME where there is some, and start again: it goes on there.", e);
        }
    }

    /// <summary>A part of the file in memory. The buffer has one byte more, in which a server shows that it sends too much.</summary>
    private sealed class Part(long start, int size, byte[] buffer)
    {
        public long Start => start;

        public int Size => size;

        public byte[] Buffer => buffer;

        public int Filled { get; private set; }

        public ReadOnlyMemory<byte> Bytes => buffer.AsMemory(0, Filled);

        public Memory<byte> Free() => buffer.AsMemory(Filled, size + 1 - Filled);

        public bool Take(int count)
        {
            bool fits = Filled + count <= size;
            Filled = fits ? Filled + count : Filled;
            return fits;
        }
    }
}
