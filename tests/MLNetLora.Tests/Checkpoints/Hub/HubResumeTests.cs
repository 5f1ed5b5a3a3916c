using System.Diagnostics;
using MLNetLora.Checkpoints;

namespace MLNetLora.Tests.Checkpoints;

/// <summary>Downloads that stop on the way and go on later, that come in parts, and several at once.</summary>
public sealed class HubResumeTests : IDisposable
{
    private const string Weights = "model.safetensors";
    private readonly FakeHub _hub = new();

    private string Incomplete => _hub.Blob(Weights) + ".incomplete";

    public void Dispose() => _hub.Dispose();

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    [InlineData(64)]
    public async Task A_large_file_comes_in_parts_over_several_connections(int connections)
    {
        int now = 0, most = 0;
        _hub.Misbehaviour = request =>
        {
            HubReply reply = _hub.Answer(request);
            return request.Name != Weights ? null : new HubReply(reply.Status, reply.Body)
            {
                Headers = reply.Headers,
                BeforeBlock = async () =>
                {
                    most = Math.Max(most, Interlocked.Increment(ref now));
                    await Task.Delay(10);
                    Interlocked.Decrement(ref now);
                },
            };
        };

        _hub.AssertWhole(await _hub.DownloadAsync(change: options => options.Connections = connections));

        Assert.Equal(connections == 1 ? 1 : 5, _hub.RequestsFor(Weights).Length);
        Assert.InRange(most, connections == 1 ? 1 : 2, connections);
    }

    [Theory]
    [InlineData(1, 100_000)] // as huggingface_hub leaves it behind, too
    [InlineData(4, 100_000)]
    [InlineData(4, 299_999)]
    [InlineData(4, 1)]
    public async Task What_an_earlier_download_has_left_is_gone_on_from(int connections, int length)
    {
        Leave(_hub.Files[Weights][..length]);
        Told told = new();

        _hub.AssertWhole(await _hub.DownloadAsync(change: options => options.Connections = connections, progress: told));

        Assert.Equal(length, _hub.RequestsFor(Weights)[0].Range?.From);
        Assert.DoesNotContain("damaged", told.Messages);
        Assert.False(File.Exists(Incomplete));
    }

    [Fact]
    public async Task What_is_whole_already_is_checked_and_not_loaded()
    {
        Leave(_hub.Files[Weights]);
        _hub.AssertWhole(await _hub.DownloadAsync());
        Assert.Empty(_hub.RequestsFor(Weights));
    }

    [Theory]
    [InlineData(100_000)]
    [InlineData(300_000)]
    [InlineData(300_001)]
    public async Task What_an_earlier_download_has_left_damaged_is_loaded_anew(int length)
    {
        Leave(new byte[length]);
        Told told = new();

        _hub.AssertWhole(await _hub.DownloadAsync(progress: told));

        Assert.Equal(length <= 300_000, told.Messages.Contains("model.safetensors is damaged", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_blob_of_the_wrong_length_is_replaced()
    {
        await _hub.DownloadAsync();
        File.WriteAllBytes(_hub.Blob(Weights), [1]);
        _hub.AssertWhole(await _hub.DownloadAsync());
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public async Task A_server_that_does_not_send_ranges_sends_everything(int connections)
    {
        Leave(_hub.Files[Weights][..100_000]);
        _hub.Misbehaviour = request => request.Name == Weights ? new HubReply(200, _hub.Files[Weights]) : null;

        _hub.AssertWhole(await _hub.DownloadAsync(change: options => options.Connections = connections));

        Assert.Equal(100_000, _hub.RequestsFor(Weights)[0].Range?.From); // it was asked for
    }

    [Fact]
    public async Task A_server_that_does_not_send_ranges_and_breaks_off_gets_through()
    {
        int answers = 0;
        _hub.Misbehaviour = request => request.Name == Weights
            ? new HubReply(200, _hub.Files[Weights]) { CutAfter = ++answers * 120_000 }
            : null;
        _hub.AssertWhole(await _hub.DownloadAsync(change: options => options.Connections = 1));
        Assert.Equal(3, answers);
    }

    [Fact]
    public async Task A_cancelled_download_keeps_what_has_come()
    {
        using CancellationTokenSource source = new();
        TaskCompletionSource never = new();
        int blocks = 0;
        _hub.Misbehaviour = request => request.Name == Weights
            ? new HubReply(200, _hub.Files[Weights]) { BeforeBlock = () => ++blocks < 10 ? Task.CompletedTask : Waited(never, source) }
            : null;

        Task<string> download = _hub.DownloadAsync(change: options => options.Connections = 1, cancellation: source.Token);
        OperationCanceledException error = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => download);

        Assert.Equal(source.Token, error.CancellationToken);
        Assert.Contains("what has arrived is kept", error.Message);
        Assert.False(Directory.Exists(_hub.Snapshot()));
        byte[] kept = File.ReadAllBytes(Incomplete);
        Assert.NotEmpty(kept);
        Assert.Equal(_hub.Files[Weights][..kept.Length], kept);

        _hub.Misbehaviour = null;
        _hub.AssertWhole(await _hub.DownloadAsync());
        Assert.Equal(kept.Length, _hub.RequestsFor(Weights)[1].Range?.From);
    }

    [Fact]
    public async Task A_cancelled_download_in_parts_keeps_the_beginning()
    {
        using CancellationTokenSource source = new();
        TaskCompletionSource never = new();
        int blocks = 0;
        _hub.Misbehaviour = request =>
        {
            HubReply reply = _hub.Answer(request);
            return request.Name != Weights ? null : new HubReply(reply.Status, reply.Body)
            {
                Headers = reply.Headers,
                BeforeBlock = () => Interlocked.Increment(ref blocks) < 10 ? Task.CompletedTask : Waited(never, source),
            };
        };

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() =>
            _hub.DownloadAsync(change: options => options.Connections = 3, cancellation: source.Token));

        byte[] kept = File.ReadAllBytes(Incomplete);
        Assert.True(kept.Length >= 64 << 10);
        Assert.Equal(_hub.Files[Weights][..kept.Length], kept); // a beginning, and no holes
    }

    [Fact]
    public async Task A_server_that_falls_silent_is_asked_again()
    {
        int answers = 0;
        _hub.Misbehaviour = request => request.Name == Weights && ++answers == 1
            ? new HubReply(200, _hub.Files[Weights]) { BeforeBlock = () => Task.Delay(Timeout.Infinite) }
            : null;
        Told told = new();

        _hub.AssertWhole(await _hub.DownloadAsync(
            change: options => (options.Connections, options.Timeout) = (1, TimeSpan.FromMilliseconds(300)), progress: told));

        Assert.True(told.Messages.Contains("127.0.0.1 has said nothing for 0.3 s. Attempt 2 of 6", StringComparison.Ordinal), told.Messages);
    }

    [Fact]
    public async Task A_full_disk_is_told_and_what_has_come_is_kept()
    {
        _hub.Disk = stream => new FullDisk(stream, 100_000);
        string message = await _hub.RefusalAsync();

        Assert.StartsWith("model.safetensors cannot be written: No space left on device", message, StringComparison.Ordinal);
        Assert.Contains($"of its 300000 bytes are kept in {Incomplete}. Make room", message);
        byte[] kept = File.ReadAllBytes(Incomplete);
        Assert.NotEmpty(kept);
        Assert.Equal(_hub.Files[Weights][..kept.Length], kept);

        _hub.Disk = stream => stream;
        _hub.AssertWhole(await _hub.DownloadAsync());
        Assert.Contains(_hub.RequestsFor(Weights), request => request.Range?.From == kept.Length);
    }

    [Fact]
    public async Task A_disk_with_too_little_room_is_told_before_anything_is_loaded()
    {
        Leave(_hub.Files[Weights][..200_000]);
        long rest = 100_000 + _hub.Files["config.json"].Length + _hub.Files["tokenizer.json"].Length;
        _hub.FreeSpace = rest - 1;
        Assert.StartsWith($"{_hub.Cache} lies on a drive with 0 MB left", await _hub.RefusalAsync(), StringComparison.Ordinal);
        Assert.Single(_hub.Server.Requests);

        _hub.FreeSpace = rest;
        _hub.AssertWhole(await _hub.DownloadAsync());
    }

    [LinuxFact]
    public async Task A_cache_that_may_not_be_written_is_told()
    {
        string file = _hub.Cache + "/file";
        Directory.CreateDirectory(_hub.Cache);
        File.WriteAllText(file, "");
        Assert.Contains($"cannot be written to the Hugging Face cache {file}", await _hub.RefusalAsync(change: options => options.CacheFolder = file));
    }

    [Fact]
    public async Task Two_downloads_at_once_load_each_file_once()
    {
        using SemaphoreSlim gate = new(0);
        _hub.Misbehaviour = request => request.Name == Weights ? new HubReply(206, _hub.Answer(request).Body)
        {
            Headers = _hub.Answer(request).Headers,
            BeforeBlock = () => gate.WaitAsync(),
        } : null;
        Told told = new() { Also = progress => _ = progress.Message?.StartsWith("Another process", StringComparison.Ordinal) == true ? gate.Release(1000) : 0 };

        Task<string> first = _hub.DownloadAsync();
        while (_hub.RequestsFor(Weights).Length == 0)
        {
            await Task.Delay(10);
        }

        string[] snapshots = await Task.WhenAll(first, _hub.DownloadAsync(progress: told));

        Assert.Equal(snapshots[0], snapshots[1]);
        _hub.AssertWhole(snapshots[0]);
        Assert.Equal(5, _hub.RequestsFor(Weights).Length);
        Assert.Contains("Another process is downloading model.safetensors of Test/model-1.5; waiting for it.", told.Messages);
    }

    /// <summary>flock(1) takes the lock as Python's filelock does, in another process.</summary>
    [LinuxFact]
    public async Task A_lock_of_another_program_is_waited_for()
    {
        string path = Path.Combine(_hub.Cache, ".locks", "models--Test--model-1.5", $"{_hub.Etag(Weights)}.lock");
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        using Process other = Process.Start(new ProcessStartInfo("flock", [path, "sh", "-c", "echo held; read line"])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        })!;
        Assert.Equal("held", await other.StandardOutput.ReadLineAsync());
        TaskCompletionSource waits = new();
        Told told = new() { Also = progress => _ = progress.Message?.StartsWith("Another process", StringComparison.Ordinal) == true && waits.TrySetResult() };

        Task<string> download = _hub.DownloadAsync(progress: told);
        await waits.Task;
        Assert.Empty(_hub.RequestsFor(Weights));
        other.StandardInput.Close();

        _hub.AssertWhole(await download);
        await other.WaitForExitAsync();
    }

    private void Leave(byte[] bytes)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Incomplete)!);
        File.WriteAllBytes(Incomplete, bytes);
    }

    /// <summary>Cancels a moment after the server has fallen silent.</summary>
    private static Task Waited(TaskCompletionSource never, CancellationTokenSource source)
    {
        source.CancelAfter(50);
        return never.Task;
    }

    /// <summary>A disk that is full after so many bytes.</summary>
    private sealed class FullDisk(Stream stream, long room) : Stream
    {
        private long _room = room;

        public override bool CanRead => true;

        public override bool CanSeek => true;

        public override bool CanWrite => true;

        public override long Length => stream.Length;

        public override long Position { get => stream.Position; set => stream.Position = value; }

        public override void Flush() => stream.Flush();

        public override int Read(byte[] buffer, int offset, int count) => stream.Read(buffer, offset, count);

        public override long Seek(long offset, SeekOrigin origin) => stream.Seek(offset, origin);

        public override void SetLength(long value) => stream.SetLength(value);

        public override void Write(byte[] buffer, int offset, int count)
        {
            _room -= count;
            if (_room < 0)
            {
                throw new IOException("No space left on device");
            }

            stream.Write(buffer, offset, count);
        }

        protected override void Dispose(bool disposing)
        {
            stream.Dispose();
            base.Dispose(disposing);
        }
    }
}
